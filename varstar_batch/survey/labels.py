"""What the labels of catalogs of variable stars mean in a model's classes: EW is ECL, RRAB is RR, ROT is none of them.

A label is read as its catalog writes it: capitals, blanks, hyphens and underscores aside; ``:`` and ``?`` mark doubt;
``|`` stands between alternatives, which must mean one class; after ``/``, ``+`` and a comma come features and further
types, of which a class must not be another one. What means no class is left out and told, never counted as wrong.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.errors import InputError
from varstar_batch.light_curves.classes import PARENTS

OTHER, UNSAID = "other", "unsaid"
"""Kinds of labels that mean no class: a star of another kind; and what says too little, such as LPV or VAR."""

_ABOVE: Mapping[str, str] = {
    **dict.fromkeys(("EA", "EB", "EW"), "ECL"),
    **dict.fromkeys(("RRAB", "RRC"), "RR"),
    **PARENTS,
}
"""What a kind belongs to, where a model has no class of its own for it."""

_GCVS_VSX = {
    "EA": "EA ED",
    "EB": "EB ESD",
    "EW": "EW EC",
    "ECL": "E",
    "RRAB": "RRAB",
    "RRC": "RRC",
    "RR": "RR RRD",
    "CEP": "CEP DCEP DCEPS CW CWA CWB CWBS RV RVA RVB",
    "DSCUT": "DSCT DSCTC DSCTR HADS SXPHE",
    "M": "M",
    "SR": "SR SRA SRB SRC SRD SRS",
    "LPV": "LPV",
    UNSAID: "ACEP BLBOO VAR PULS MISC",
    OTHER: "ACV ACVO ACYG AGN AM BCEP BCEPS BE BLAP BLLAC BXCIR BY CBSS CST CTTS CV DIP DPV DQ DYPER ELL EP EXOR FF "
    "FKCOM FSCMA FUOR GAL GCAS GDOR GWLIB HB I IA IB IBWD IN INA INB INS INSA INSB INST INT IS ISA ISB L LB LC LERI "
    "LSP MICROLENS N NA NB NL NR PPN PSR PVTEL QSO R RCB ROAM ROAP ROT RS S SDOR SN SNI SNIA SNIB SNIC SNII SNIIA "
    "SNIIB SNIIN SNIIP SNIIL SPB SPBE SRPV SXARI TTS TTSROT UG UGER UGSS UGSU UGWZ UGZ UV UVN UXOR V1093HER V361HYA "
    "V838MON VBD VY WR WTTS X XB XF XI XJ XM XN XND XNG XP XPM XPR XPRM YSO ZAND ZZ ZZA ZZB ZZLEP ZZO",
}
"""Source: VSX's list of types (vsx.aavso.org, Variable Star Type Designations), which contains that of the GCVS
(Samus' et al. 2017, ARep 61, 80)."""

_ASASSN = {"CEP": "DCEPFU DCEPFO CWFU CWFO", "M": "MIRA"}
"""Source: ASAS-SN (Jayasinghe et al. 2018, MNRAS 477, 3145) writes VSX's types; ASAS-3 (Pojmanski 2002, AcA 52, 397)
has these besides."""

_OGLE = {
    "EW": "C",
    "ECL": "NC",
    "RR": "RRE ARRD RRLYR",
    "CEP": "F 1O 2O 3O F1O 1O2O 1O3O 2O3O 1O2O3O BLHER WVIR PWVIR RVTAU T2CEP "
    "CEPHEIDF CEPHEID1O CEPHEID2O CEPHF CEPH1O",
    "DSCUT": "SINGLEMODE MULTIMODE",
    "SR": "SRV",
    OTHER: "OSARG",
}
"""Source: OGLE Collection of Variable Stars (Soszynski et al., ogledb.astrouw.edu.pl). GCVS's NC, a very slow nova, has
no period."""

_CATALINA = {
    "EA": "EAUP",
    "EB": "BETALYRAE",
    "ECL": "PCEB",
    "RR": "BLAZHKO",
    "CEP": "CEPII",
    "DSCUT": "LADS",
    OTHER: "RSCVN HUMP ROTATIONAL",
}
"""Source: Catalina Surveys Periodic Variable Star Catalogs (Drake et al. 2014, ApJS 213, 9; 2017, MNRAS 469, 3688). Its
numbers mean nothing elsewhere, so they are left to [labels]."""

_GAIA = {
    "ECL": "ECL",
    "DSCUT": "DSCTGDORSXPHE DSCTSXPHE",
    "LPV": "MIRASR",
    OTHER: "ACVCPMCPROAMROAPSXARI BEGCASSDORWR CP MCP GALAXY MICROLENSING SDB SOLARLIKE SYST WD",
}
"""Source: Gaia DR3 (Rimoldini et al. 2023, A&A 674, A14; classes of vari_classifier_result) and DR2 (A&A 625, A97).
Three kinds are one class there, of which delta Scuti stars are the most."""

_FULL_NAMES = {
    "EA": "ALGOL",
    "EW": "WURSAEMAJORIS WUMA",
    "ECL": "ECLIPSINGBINARY ECLIPSING",
    "RRAB": "RRA RRLYRAEFUNDAMENTALMODE",
    "RRC": "RRLYRAEFIRSTOVERTONE",
    "RR": "RRLYRAE RRLYRAEDOUBLEMODE",
    "CEP": "CEPHEID CLASSICALCEPHEID CLASSICALCEP MULTIPLEMODECEPHEID POPULATIONIICEPHEID TYPEIICEPHEID "
    "LMCCLASSICALCEP",
    "DSCUT": "DELTASCUTI DELTASCT DELSCT SXPHOENICIS",
    "SR": "SEMIREGULAR SEMIREGULARPULSATINGVARIABLE",
    "LPV": "LONGPERIODVARIABLE",
    UNSAID: "NAN NONE NULL UNKNOWN UNCLASSIFIED UNDEFINED VARIABLE",
    OTHER: "BYDRA ANOMALOUSCEPHEID ELLIPSOIDAL NONVARIABLE CONSTANT",
}
"""What tables write where they use no designations."""

_GREEK = str.maketrans({"Δ": "DELTA", "Β": "BETA"})

MOST_TOLD = 8
"""Labels that one line names."""

MOST_LETTERS = 60
"""Of a label that a line names: a column of another kind may hold pages."""


class Meaning(NamedTuple):
    """What a label says."""

    class_: str | None
    """The class of the model; None where it names none."""
    why: Literal["class", "blank", "other", "unsaid", "unknown"]
    """A class; no label at all; another kind of star; none of the classes alone; nobody knows the label."""


class LabelReader:
    """Reads labels as classes of a model.

    Parameters
    ----------
    classes : iterable of str
        Names of the model's classes. A label that is one of them means that one.
    own : mapping
        Meanings that the configuration adds (``[labels] EW = "ECL"``), before all others; ``""`` leaves a label out.

    Raises
    ------
    InputError
        One of `own` means what is no class of the model.
    """

    def __init__(self, classes: Iterable[str], own: Mapping[str, str]) -> None:
        self.classes = tuple(classes)
        for label, name in own.items():
            if name and name not in self.classes:
                raise InputError(
                    expected=f"a class of the model ({', '.join(self.classes)}), or '' to leave the label out",
                    got=f"{label} = {name!r}",
                    where="configuration [labels]",
                    fix=f"did you mean {near!r}?" if (near := _nearest(name, self.classes)) else "name one of them",
                )
        self._own = {key_of(label): name or OTHER for label, name in own.items()}
        self._kinds = {**known_labels(), **{key_of(name): name for name in self.classes}, **self._own}
        self._read: dict[str, Meaning] = {}

    def read(self, label: str | None) -> Meaning:
        """Return what a label means."""
        text = label or ""
        if text not in self._read:
            self._read[text] = self._meaning(text)
        return self._read[text]

    def codes(self, labels: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int8]:
        """Return the indices of the classes that n labels mean, int8 (n,), -1 for none; each label is read once."""
        whole = labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels
        encoded = whole.dictionary_encode()
        number = {name: code for code, name in enumerate(self.classes)}
        # One more at the end, for nulls.
        names = [self.read(label).class_ for label in encoded.dictionary.to_pylist()]
        codes = np.array([-1 if name is None else number[name] for name in [*names, None]], np.int8)
        found: npt.NDArray[np.int8] = codes[np.asarray(encoded.indices.fill_null(len(names)))]
        return found

    def left_out(self, counts: Mapping[str, int]) -> dict[str, str]:
        """Return one line, by `Meaning.why`, about labels that name no class; `counts` are their objects."""
        lines = {}
        beginnings = {
            "other": "Left out, of kinds that are no class of the model",
            "unsaid": "Left out, since their labels name no single class",
            "unknown": "Left out, since nobody knows what their labels mean",
        }
        for why, beginning in beginnings.items():
            mine: Counter[str] = Counter()
            for label, n in counts.items():
                if self.read(label).why == why:
                    mine[key_of(label) if _is_number(label) else label] += n
            if mine:
                ordered = sorted(mine.items(), key=lambda entry: (-entry[1], entry[0]))
                told = ", ".join(f"{self._named(label, why)} {n:,}" for label, n in ordered[:MOST_TOLD])
                more = f" and {len(mine) - MOST_TOLD:,} more labels" if len(mine) > MOST_TOLD else ""
                lines[why] = f"{beginning}: {sum(mine.values()):,} objects ({told}{more})"
                if why == "unknown" and len(ordered[0][0]) <= MOST_LETTERS:
                    lines[why] += f"; say what they mean: --set 'labels.{ordered[0][0]}={self.classes[0]}', or [labels]"
        return lines

    def _named(self, label: str, why: str) -> str:
        if len(label) > MOST_LETTERS:
            return repr(f"{label[:MOST_LETTERS]}...")
        said = [key for key, kind in self._kinds.items() if kind != UNSAID]
        near = _nearest(key_of(label), said) if why == "unknown" and not _is_number(label) else None
        return f"{label!r} (like {near}?)" if near else repr(label)

    def _meaning(self, text: str) -> Meaning:
        if text in self.classes:
            return Meaning(text, "class")
        if not text.strip():
            return Meaning(None, "blank")
        kinds = self._kinds_of(text)
        if None in kinds:
            return Meaning(None, "unknown")
        if set(kinds) == {OTHER}:
            return Meaning(None, "other")
        # Alternatives mean what all of them belong to.
        chains = [_chain(kind) for kind in kinds if kind is not None]
        common = [name for name in chains[0] if name in self.classes and all(name in chain for chain in chains)]
        if common:
            return Meaning(common[0], "class")
        says_little = len(kinds) > 1 or UNSAID in kinds or any(kinds[0] in _chain(name) for name in self.classes)
        return Meaning(None, "unsaid" if says_little else "other")

    def _kinds_of(self, text: str) -> list[str | None]:
        """Return the kinds that a label names, one for each alternative; None for one that nobody knows."""
        if (whole := self._kinds.get(key_of(text))) is not None:
            return [whole]
        if "|" in text:
            return [kind for part in text.split("|") if part.strip() for kind in self._kinds_of(part)]
        plain = re.sub(r"\([^)]*\)", "", text)
        if not key_of(plain):
            return [UNSAID]
        first, *further = (self._kinds.get(key_of(part)) for part in re.split(r"[/+,]", plain) if key_of(part))
        if first in {None, OTHER, UNSAID}:
            return [first]
        return [first, *(kind for kind in further if kind not in {None, OTHER, UNSAID})]


def kinds_of(label: str) -> frozenset[str]:
    """Return the kinds that a label names as they are, without what they belong to; none where a part is not known.

    ``EW/EB`` names two, of which the star is one.
    """
    text = re.sub(r"\([^)]*\)", "", label)
    whole = known_labels().get(key_of(label))
    parts = [known_labels().get(key_of(part)) for part in re.split(r"[|/+,]", text) if key_of(part)]
    kinds = [whole] if whole is not None else parts
    return frozenset() if {None, OTHER, UNSAID} & set(kinds) else frozenset(kind for kind in kinds if kind is not None)


def kinds_within(name: str) -> tuple[str, ...]:
    """Return the kinds that belong to a kind right away: RRAB and RRC to RR."""
    return tuple(kind for kind, above in _ABOVE.items() if above == name)


def parent_of(name: str) -> str:
    """Return what a class belongs to in the end: LPV for M, itself for one that nobody knows."""
    return _chain(name)[-1]


def agreement(labels: Mapping[str, int]) -> tuple[int, int]:
    """Return how many classified objects have the class that their label means, and of how many with such a label.

    `labels` are objects by ``label_class>class``, as in a run's record.
    """
    pairs = [(key.rpartition(">"), count) for key, count in labels.items()]
    right = sum(count for (label, _, found), count in pairs if label == found)
    return right, sum(count for (_, _, found), count in pairs if found)


def key_of(label: str) -> str:
    """Return a label without what catalogs write differently: capitals, blanks, hyphens, marks of doubt."""
    text = label.strip()
    if _is_number(text):
        return re.sub(r"\.0*$", "", text)  # a column of whole numbers with nulls is often one of floats
    return re.sub(r"[^0-9A-Z]", "", text.upper().translate(_GREEK))


def _is_number(label: str) -> bool:
    """Return whether a label is a catalog's own number: it is like no other label, and 2.0 is 2."""
    return re.fullmatch(r"[+-]?\d+(\.\d*)?", label.strip()) is not None


@cache
def known_labels() -> Mapping[str, str]:
    """Return the kind of every label that a catalog is known to use, by `key_of` the label."""
    tables = (_FULL_NAMES, _GAIA, _CATALINA, _OGLE, _ASASSN, _GCVS_VSX)
    return {label: kind for table in tables for kind, labels in table.items() for label in labels.split()}


def _chain(kind: str) -> list[str]:
    chain = [kind]
    while chain[-1] in _ABOVE:
        chain.append(_ABOVE[chain[-1]])
    return chain


def _nearest(name: str, there: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name.upper(), list(there), n=1, cutoff=0.6)), None)
