"""The look of a report: one column on a phone, a grid on a screen, dark where the reader's system is."""

CSS = """
:root{--page:#f6f7f9;--card:#fff;--ink:#1a2130;--soft:#5b6577;--line:#e1e5ec;--accent:#2458d3;--good:0,120,90;
--bad:205,70,20;--track:#eef1f6;--dots:.7;--warn:#fff4e0;--warn-line:#e8a13a}
@media(prefers-color-scheme:dark){:root{--page:#10141c;--card:#181e29;--ink:#e8ecf4;--soft:#98a3b8;--line:#2a3240;
--accent:#8fb0ff;--good:40,190,140;--bad:240,110,60;--track:#232b38;--dots:.9;--warn:#33290f;--warn-line:#b07b22}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1160px;margin:0 auto;padding:20px 16px 60px}
header{padding:12px 0 4px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:38px 0 4px}
h3{font-size:1rem;margin:0 0 6px}
h3.row{margin-top:18px}
p{margin:6px 0}
.sub,.lead,.note{color:var(--soft)}
.sub{overflow-wrap:anywhere;font-size:.92rem}
.lead{margin:0 0 12px;max-width:70ch}
nav{display:flex;gap:6px 14px;flex-wrap:wrap;margin:14px 0 4px;font-size:.92rem}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:16px 0 0}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px;min-width:0}
.tile b{display:block;font-size:1.5rem;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.88rem}
.tile.alarm{border-color:var(--warn-line);background:var(--warn)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:12px}
.grid.two{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
section>.card+.grid,section>.grid+.card,section>.card+.card,section>.grid+.grid{margin-top:12px}
.swatch{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.45em}
.count{color:var(--soft);font-weight:400;font-size:.9rem}
.bars{display:grid;grid-template-columns:fit-content(45%) minmax(20px,1fr) max-content max-content;gap:7px 10px;
align-items:center}
.bars .label{overflow-wrap:anywhere}
.bars .track{background:var(--track);border-radius:4px;height:14px;overflow:hidden}
.bars .bar{display:block;height:100%;min-width:2px;border-radius:4px}
.bars .value{font-variant-numeric:tabular-nums;color:var(--soft);font-size:.92rem;text-align:right}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font-size:12px;font-family:inherit}
svg .axis-name{fill:var(--ink);font-size:12px}
svg .axis,svg .grid{stroke:var(--line);stroke-width:1}
svg .frame{fill:none;stroke:var(--line)}
svg .dots{fill:none;stroke-width:3.2;stroke-linecap:round;stroke-opacity:var(--dots)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:0 0 6px;font-size:.92rem}
.sky .graticule path{fill:none;stroke:var(--soft);stroke-opacity:.35;stroke-width:1}
.sky image{image-rendering:auto}
.strip .sky .hours text{font-size:24px!important}
.sky .hours text{font-size:13px;paint-order:stroke;stroke:var(--card);stroke-width:3px}
.key{display:flex;align-items:center;gap:8px;color:var(--soft);font-size:.85rem}
.ramp{flex:0 1 160px;height:8px;border-radius:4px;
background:linear-gradient(90deg,#440154,#472c7a,#3b518b,#2c718e,#21908d,#27ad81,#5cc863,#aadc32,#fde725)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:5px 9px;text-align:right;white-space:nowrap}
th{font-weight:600}
td.text,th.text{text-align:left;vertical-align:top}
td.wrap{white-space:normal;overflow-wrap:anywhere}
table.list{width:100%}
table.list td{border-top:1px solid var(--line)}
table.matrix td{min-width:44px;border:1px solid var(--card);border-radius:4px}
table.matrix td.good{background:rgba(var(--good),calc(var(--s,0)*.55 + min(var(--s,0),.02)*4))}
table.matrix td.bad{background:rgba(var(--bad),calc(var(--s,0)*.8 + min(var(--s,0),.02)*4))}
table.matrix tbody th,.corner{text-align:left;color:var(--soft)}
table.matrix th{white-space:normal;max-width:9em}
.zero{color:var(--line)}
.warn{background:var(--warn);border:1px solid var(--warn-line);border-radius:10px;padding:10px 14px;margin:12px 0}
.star{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 8px;font-size:.9rem;margin-bottom:4px}
.star b{overflow-wrap:anywhere;min-width:0}
.star span{color:var(--soft);white-space:nowrap}
.prose{overflow-wrap:anywhere}
.prose h1{font-size:1.15rem;margin-top:0}
.prose h2{font-size:1rem;margin:18px 0 4px}
.prose table{display:block;overflow-x:auto;margin:8px 0}
.prose th,.prose td{border-bottom:1px solid var(--line);text-align:left}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em;overflow-wrap:anywhere}
footer{color:var(--soft);font-size:.88rem;margin-top:40px;overflow-wrap:anywhere}
@media(max-width:640px){.strip{display:flex;overflow-x:auto;scroll-snap-type:x mandatory;margin:0 -12px;
padding:0 12px 6px}.strip>.card{flex:0 0 82%;scroll-snap-align:center}}
@media(max-width:480px){main{padding:12px 12px 40px}h1{font-size:1.35rem}.tile b{font-size:1.25rem}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.card,.tile{padding:12px}.wide text{font-size:22px!important}
.wide .dots{stroke-width:5}th,td{padding:4px 6px}
table.matrix{font-size:.78rem}table.matrix td,table.matrix th{padding:4px 4px;min-width:0}}
@media print{.card,.tile{break-inside:avoid}nav{display:none}}
"""
