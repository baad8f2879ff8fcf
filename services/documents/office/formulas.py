"""Formulas of Office documents as LaTeX (ISO/IEC 29500-1, clause 22.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from unicodedata import normalize

from switchyard.services.documents.office.package import Element

M: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MAX_DEPTH: Final = 40  # deeper ones are their letters alone
PROPERTIES: Final = re.compile(r"\{[^}]*\}\w+Pr$")
NEXT_ROW: Final = r" \\ "
ONE: Final = re.compile(r"[^\\{}^_\s]|\\[A-Za-z]+|\\.|\{[^{}]*\}")  # what needs no braces around it
GREEK: Final = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *(
        "nu",
        "xi",
        "omicron",
        "pi",
        "rho",
        "varsigma",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "chi",
        "psi",
        "omega",
    ),
)
CAPITAL: Final = frozenset(
    {"gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"}
)
SIGNS: Final = {
    **{chr(0x3B1 + number): name for number, name in enumerate(GREEK) if name != "omicron"},
    **{chr(0x391 + number): name.capitalize() for number, name in enumerate(GREEK) if name in CAPITAL},
    "\u03d1": "vartheta", "\u03d5": "phi", "\u03c6": "varphi", "\u03f5": "epsilon", "\u03b5": "varepsilon",
    "\u00d7": "times", "\u00f7": "div", "\u00b1": "pm", "\u2213": "mp", "\u22c5": "cdot", "\u2219": "cdot",
    "\u2217": "ast", "\u221e": "infty", "\u2264": "leq", "\u2265": "geq", "\u2260": "neq", "\u2248": "approx",
    "\u2261": "equiv", "\u223c": "sim", "\u2245": "cong", "\u221d": "propto", "\u226a": "ll", "\u226b": "gg",
    "\u2192": "to", "\u2190": "leftarrow", "\u2194": "leftrightarrow", "\u21d2": "Rightarrow",
    "\u21d0": "Leftarrow", "\u21d4": "Leftrightarrow", "\u21a6": "mapsto", "\u2208": "in", "\u2209": "notin",
    "\u220b": "ni", "\u2282": "subset", "\u2286": "subseteq", "\u2283": "supset", "\u2287": "supseteq",
    "\u222a": "cup", "\u2229": "cap", "\u2205": "emptyset", "\u2200": "forall", "\u2203": "exists",
    "\u00ac": "neg", "\u2227": "wedge", "\u2228": "vee", "\u2202": "partial", "\u2207": "nabla",
    "\u2211": "sum", "\u220f": "prod", "\u222b": "int", "\u222c": "iint", "\u222d": "iiint", "\u222e": "oint",
    "\u22c3": "bigcup", "\u22c2": "bigcap", "\u22c1": "bigvee", "\u22c0": "bigwedge", "\u2026": "ldots",
    "\u22ef": "cdots", "\u22ee": "vdots", "\u22f1": "ddots", "\u2225": "parallel", "\u22a5": "perp",
    "\u2220": "angle", "\u00b0": "circ", "\u2032": "prime", "\u210f": "hbar", "\u2113": "ell",
    "\u27e8": "langle", "\u27e9": "rangle", "\u2308": "lceil", "\u2309": "rceil", "\u230a": "lfloor",
    "\u230b": "rfloor", "\u2016": "|", "\u2295": "oplus", "\u2297": "otimes", "\u2218": "circ",
}  # fmt: skip
BLACKBOARD: Final = dict(zip("\u2102\u2115\u2119\u211a\u211d\u2124", "CNPQRZ", strict=True))
ESCAPED: Final = frozenset("#$%&_{}")
FUNCTIONS: Final = frozenset(
    {"arccos", "arcsin", "arctan", "arg", "cos", "cosh", "cot", "coth", "csc", "deg", "det", "dim", "exp"}
    | {"gcd", "hom", "inf", "ker", "lg", "lim", "ln", "log", "max", "min", "Pr", "sec", "sin", "sinh", "sup"}
    | {"tan", "tanh"}
)
ACCENTS: Final = {
    "\u0300": "grave", "\u0301": "acute", "\u0302": "hat", "\u0303": "tilde", "\u0304": "bar",
    "\u0305": "overline", "\u0306": "breve", "\u0307": "dot", "\u0308": "ddot", "\u030a": "mathring",
    "\u030c": "check", "\u20d6": "overleftarrow", "\u20d7": "vec", "\u20db": "dddot",
}  # fmt: skip
GROUPS: Final = {"\u23de": "overbrace", "\u23df": "underbrace"}


def latex(formula: Element) -> Iterator[str]:
    """The formulas of `m:oMathPara` as blocks, or that of `m:oMath` as one within a line."""
    if formula.tag == f"{M}oMath":
        if written := _tidy(_inner(formula, 0)):
            yield f"${written}$"
        return
    for each in formula.iter(f"{M}oMath"):
        if written := _tidy(_inner(each, 0)):
            yield f"$${written}$$"


def _tidy(text: str) -> str:
    return re.sub(r" {2,}", " ", re.sub(r" ([\^_})])", r"\1", text)).strip()


def _inner(element: Element | None, depth: int) -> str:
    """What is within an element."""
    if element is None:
        return ""
    if depth > MAX_DEPTH:
        return "".join(_shown(text.text or "") for text in element.iter(f"{M}t"))
    return "".join(_one(child, depth + 1) for child in element if isinstance(child.tag, str))


def _one(element: Element, depth: int) -> str:
    if PROPERTIES.match(element.tag):
        return ""
    if element.tag.startswith(W):
        return _inner(element, depth)  # such as tracked insertions
    kind = element.tag.removeprefix(M)
    if kind == "r":
        return _run(element)
    written = WRITERS.get(kind)
    return written(element, depth) if written is not None else _inner(element, depth)


def _run(run: Element) -> str:
    text = "".join(part.text or "" for part in run if part.tag in (f"{M}t", f"{W}t"))
    plain = run.find(f"{M}rPr/{M}nor")
    if plain is not None and text.strip() and _value(plain) not in ("0", "off", "false"):
        return rf"\text{{{text}}}" if not ESCAPED & set(text) else _shown(text)
    return _shown(text)


def _shown(text: str) -> str:
    """Letters as LaTeX writes them; those of mathematical alphabets as plain ones."""
    return "".join(map(_sign, text))


def _sign(character: str) -> str:
    if character in ESCAPED:
        return f"\\{character}"
    if character == "\\":
        return r"\backslash "
    if character in BLACKBOARD:
        return rf"\mathbb{{{BLACKBOARD[character]}}}"
    if character in "\u2212\u2010\u2011\u2013":
        return "-"
    if character == "<":
        return "< "  # followed by a letter it would read as HTML
    if "\U0001d400" <= character <= "\U0001d7ff":
        character = normalize("NFKC", character)
    found = SIGNS.get(character)
    return character if found is None else f"\\{found} "


def _value(element: Element | None) -> str:
    return "" if element is None else element.get(f"{M}val", "")


def _property(element: Element, name: str) -> str | None:
    """A property of an element by its path; None where it is not given."""
    found = element.find("/".join(f"{M}{part}" for part in name.split("/")))
    return None if found is None else _value(found)


def _is_on(element: Element, name: str) -> bool:
    given = _property(element, name)
    return given is not None and given not in ("0", "off", "false")


def _part(element: Element, name: str, depth: int) -> str:
    return _inner(element.find(f"{M}{name}"), depth).strip()


def _base(element: Element, depth: int) -> str:
    """What a script is on, in braces where it is more than one sign."""
    inner = _part(element, "e", depth)
    return inner if ONE.fullmatch(inner) else f"{{{inner}}}"


def _fraction(element: Element, depth: int) -> str:
    over, under = _part(element, "num", depth), _part(element, "den", depth)
    match _property(element, "fPr/type"):
        case "lin":
            return f"{over}/{under}"
        case "noBar":
            return rf"\genfrac{{}}{{}}{{0pt}}{{}}{{{over}}}{{{under}}}"
        case _:
            return rf"\frac{{{over}}}{{{under}}}"


def _scripts(element: Element, depth: int) -> str:
    below, above = element.find(f"{M}sub") is not None, element.find(f"{M}sup") is not None
    scripts = f"_{{{_part(element, 'sub', depth)}}}" if below else ""
    if above:
        scripts += f"^{{{_part(element, 'sup', depth)}}}"
    if element.tag == f"{M}sPre":
        return f"{{}}{scripts}{_base(element, depth)}"
    return f"{_base(element, depth)}{scripts}"


def _root(element: Element, depth: int) -> str:
    degree = "" if _is_on(element, "radPr/degHide") else _part(element, "deg", depth)
    inner = _part(element, "e", depth)
    return rf"\sqrt[{degree}]{{{inner}}}" if degree else rf"\sqrt{{{inner}}}"


def _large(element: Element, depth: int) -> str:
    """A sum, an integral or the like."""
    given = _property(element, "naryPr/chr")
    written = _shown("\u222b" if given is None else given).strip()
    for name, mark in (("sub", "_"), ("sup", "^")):
        inner = _part(element, name, depth)
        if inner and not _is_on(element, f"naryPr/{name}Hide"):
            written += f"{mark}{{{inner}}}"
    inner = _part(element, "e", depth)
    return f"{written} {inner}" if inner[:1].isalnum() and not written.endswith("}") else f"{written}{inner}"


def _fenced(element: Element, depth: int) -> str:
    opening, closing = _property(element, "dPr/begChr"), _property(element, "dPr/endChr")
    parting = _property(element, "dPr/sepChr")
    inner = _shown("|" if parting is None else parting).join(
        _inner(each, depth).strip() for each in element.iterfind(f"{M}e")
    )
    left, right = (
        _shown(usual if given is None else given).strip() or "."
        for given, usual in ((opening, "("), (closing, ")"))
    )
    return rf"\left{left}{inner}\right{right}"


def _function(element: Element, depth: int) -> str:
    name, inner = _part(element, "fName", depth), _part(element, "e", depth)
    plain = re.match(r"(?:\\text\{)?([A-Za-z]+)\}?", name)
    if plain is not None and plain[1] in FUNCTIONS:
        name = f"\\{plain[1]}{name[plain.end() :]}"
    return f"{name} {inner}" if inner[:1].isalnum() else f"{name}{inner}"


def _limit(element: Element, depth: int) -> str:
    below = element.tag == f"{M}limLow"
    base, limit = _part(element, "e", depth), _part(element, "lim", depth)
    if base in FUNCTIONS or base.removeprefix("\\") in FUNCTIONS:
        base = f"\\{base.removeprefix(chr(92))}"
    if base.startswith("\\"):
        return f"{base}{'_' if below else '^'}{{{limit}}}"
    return rf"\{'underset' if below else 'overset'}{{{limit}}}{{{base}}}"


def _matrix(element: Element, depth: int) -> str:
    rows = (
        " & ".join(_inner(cell, depth).strip() for cell in row.iterfind(f"{M}e"))
        for row in element.iterfind(f"{M}mr")
    )
    return rf"\begin{{matrix}}{NEXT_ROW.join(rows)}\end{{matrix}}"


def _equations(element: Element, depth: int) -> str:
    rows = [_inner(row, depth).strip() for row in element.iterfind(f"{M}e")]
    if len(rows) == 1:
        return rows[0]
    return rf"\begin{{aligned}}{NEXT_ROW.join(rows)}\end{{aligned}}"


def _accent(element: Element, depth: int) -> str:
    given = _property(element, "accPr/chr")
    return rf"\{ACCENTS.get(given or '', 'hat')}{{{_part(element, 'e', depth)}}}"


def _bar(element: Element, depth: int) -> str:
    name = "overline" if _property(element, "barPr/pos") == "top" else "underline"
    return rf"\{name}{{{_part(element, 'e', depth)}}}"


def _group(element: Element, depth: int) -> str:
    given = _property(element, "groupChrPr/chr")
    return rf"\{GROUPS.get(given or '', 'underbrace')}{{{_part(element, 'e', depth)}}}"


def _boxed(element: Element, depth: int) -> str:
    return rf"\boxed{{{_part(element, 'e', depth)}}}"


WRITERS: Final[dict[str, Callable[[Element, int], str]]] = {
    "f": _fraction, "sSup": _scripts, "sSub": _scripts, "sSubSup": _scripts, "sPre": _scripts, "rad": _root,
    "nary": _large, "d": _fenced, "func": _function, "limLow": _limit, "limUpp": _limit, "m": _matrix,
    "eqArr": _equations, "acc": _accent, "bar": _bar, "groupChr": _group, "borderBox": _boxed,
}  # fmt: skip
