"""`varstar estimate` beside the run that it foretells."""

from __future__ import annotations

import json

from tests.benchmarks.classifying import classify
from tests.benchmarks.harness import Options, Part, checked, run_process, varstar
from tests.benchmarks.measures import Row, spread
from tests.benchmarks.models import paper_bundle
from tests.benchmarks.surveys import SurveySize, write_survey


def measure(options: Options) -> Part:
    """Measure seconds and memory of runs, and compare them with what was foretold."""
    part = Part("varstar estimate: foretold and measured")
    bundle = paper_bundle(options.scratch)
    sizes = {
        "many light curves": SurveySize(
            objects=options.objects // 2, partitions=min(64, max(4, options.objects // 2000))
        ),
        "long light curves": SurveySize(
            objects=max(100, options.objects // 20), partitions=8, observations=1_500, spread=0.2
        ),
    }
    if options.quick:
        del sizes["long light curves"]
    for name, size in sizes.items():
        survey = write_survey(options.scratch / f"survey-{size.objects}-{size.partitions}-{size.observations}", size)
        for precision in ("bfloat16",) if options.quick else ("float32", "bfloat16"):
            asked = ["--model", str(bundle), "--precision", precision, "--workers", str(options.workers), "--json"]
            foretold = json.loads(checked(run_process(varstar("estimate", str(survey), *asked))).out)
            done = classify(
                survey, bundle, options.scratch / "catalog", "--precision", precision, workers=options.workers
            )
            pairs = {"seconds": done.process.seconds, "memory": done.process.memory}
            off = {key: foretold[key] / value - 1 for key, value in pairs.items()}
            part.facts[f"{name}, {precision}"] = {
                key: {"foretold": round(foretold[key], 1), "measured": round(value, 1), "off": round(off[key], 3)}
                for key, value in pairs.items()
            }
            part.rows.append(
                Row(
                    name=f"{name} ({size.objects:,} of {size.observations}), {precision}: time measured",
                    value=spread([done.process.seconds]),
                    unit="s",
                    memory=done.process.memory,
                    note=f"foretold {foretold['seconds']:.1f} s ({off['seconds']:+.0%}), "
                    f"memory {foretold['memory'] / 2**20:,.0f} MiB ({off['memory']:+.0%})",
                )
            )
    return part
