"""The one ordered structure in a CIF; gemmi parses the text and knows the space groups.

A CIF says most things twice: its symmetry by operations, a Hall symbol, a Hermann-Mauguin symbol and a number; the
content of its cell by sites, a formula, the number of formula units, the volume and the density. These have to agree. A
setting, an origin or axes that are left open are taken only if a single choice agrees with all the rest.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import gemmi
import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition

from benchmarks.data.raw_crystal import (
    HEAVY_HYDROGEN,
    NUMBERS,
    BadRow,
    RawCrystal,
    check,
    refuse_disorder,
    refuse_short_bonds,
)
from benchmarks.data.space_groups import (
    IDENTITY,
    Group,
    fits_cell,
    group_of_hall,
    matrices,
    parse_operations,
    settings_of_number,
    settings_of_symbol,
    type_number,
)

__all__ = ["parse_cif"]

# Images of a site are one atom if they are closer than this and what the rounding of its coordinates adds; in Å.
_TOLERANCE = 0.01
_MAX_ROUNDING = 0.5
# As shares of what is given.
_VOLUME_TOLERANCE = 0.01
_DENSITY_TOLERANCE = 0.03
# Formulas may have rounded fractions of atoms.
_SAME_COUNT = 0.01
# 1 g/cm³ in atomic mass units per Å³.
_GRAM_PER_CM3 = 0.602214076

# Items by their names in lower case.
_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_MAGNETIC_OPERATIONS = ("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_centering_xyz")
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_SYMBOL = ("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full")
_NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
_CODE = "_space_group_it_coordinate_system_code"
_SYSTEM = ("_space_group_crystal_system", "_symmetry_cell_setting")
_FORMULA = "_chemical_formula_sum"
_SITE = "_atom_site_"
_COORDINATES = ("fract_x", "fract_y", "fract_z")
_DISORDER = ("disorder_assembly", "disorder_group")
_MULTIPLICITY = ("site_symmetry_multiplicity", "symmetry_multiplicity")
_SITE_ITEMS = (
    *("label", "type_symbol", "occupancy", "calc_flag", "attached_hydrogens"),
    *(*_COORDINATES, *_DISORDER, *_MULTIPLICITY),
)

_UNKNOWN = frozenset({"", "?", "."})
_ANGLES = ("alpha", "beta", "gamma")
_LISTED = "symmetry operations"
_LETTERS = re.compile(r"[A-Za-z]*")
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?")
# Labels that begin with the symbol of an element which they may not mean.
_TWO_READINGS = {"T": "tritium or a tetrahedral site", "H2O": "hydrogen or water"}
# Oxygen in labels of minerals; only the formula can tell whether its hydrogen is among the sites.
_OXYGEN = frozenset({"OH", "OW", "WAT"})

_Formula = dict[str, Fraction]


class _Site(NamedTuple):
    """A site as it is listed.

    Attributes:
        label: Its label.
        symbol: Its element.
        position: Fractional coordinates, [3].
        rounding: By how much rounding may have moved each coordinate, [3].
        multiplicity: What the file says how many atoms of the cell the site stands for; None where it does not.
    """

    label: str
    symbol: str
    position: NDArray[np.float64]
    rounding: NDArray[np.float64]
    multiplicity: int | None


class _Items:
    """The items of a block by their names in lower case; the values "?" and ".", which say nothing, are None."""

    def __init__(self, block: Any) -> None:
        self._values: dict[str, list[str | None]] = {}
        self._loop: dict[str, int] = {}
        self._ambiguous: set[str] = set()
        for i, item in enumerate(block):
            if item.pair is not None:
                self._add(item.pair[0], [item.pair[1]], -1)
            elif item.loop is not None:
                for column, tag in enumerate(item.loop.tags):
                    self._add(tag, item.loop.values[column :: item.loop.width()], i)

    def _add(self, tag: str, raw: Iterable[str], loop: int) -> None:
        # The newer dictionaries have a dot: _atom_site.fract_x.
        name = tag.lower().replace(".", "_")
        texts = [gemmi.cif.as_string(text).strip() for text in raw]
        values = [None if text in _UNKNOWN else text for text in texts]
        if self._values.setdefault(name, values) != values:
            self._ambiguous.add(name)
        self._loop.setdefault(name, loop)

    def all(self, name: str) -> list[str | None]:
        """Return the values of an item, none if it is absent."""
        if name in self._ambiguous:
            raise BadRow(f"has a CIF that gives {name} twice, with different values")
        return self._values.get(name, [])

    def one(self, *names: str) -> str | None:
        """Return the first value of these items."""
        return next((value for name in names for value in self.all(name) if value is not None), None)

    def several(self, *names: str) -> list[str]:
        """Return the different values of these items."""
        return list(dict.fromkeys(value for name in names for value in self.all(name) if value is not None))

    def number(self, *names: str) -> float | None:
        """Return the first value of these items as a number, without its uncertainty."""
        text = self.one(*names)
        return None if text is None else _number(text, names[0])

    def sites(self) -> list[dict[str, str | None]]:
        """Return the list of sites, of which each has all items of `_SITE_ITEMS`."""
        columns = {name: self.all(_SITE + name) for name in _SITE_ITEMS}
        loops = {self._loop[_SITE + name] for name, column in columns.items() if column}
        n_sites = len(columns["fract_x"])
        if len(loops) > 1 or any(len(column) not in {0, n_sites} for column in columns.values()):
            raise BadRow(f"has a CIF whose list of sites ({_SITE}...) is split into several")
        return [{name: column[i] if column else None for name, column in columns.items()} for i in range(n_sites)]


def _number(text: str | None, name: str) -> float:
    value = float(gemmi.cif.as_number(text or "?"))
    if not math.isfinite(value):
        raise BadRow(f"has a CIF that cannot be read ({name} is no finite number but {text or '?'!r})")
    return value


def parse_cif(text: str) -> RawCrystal:
    """Parse a CIF that holds one ordered structure.

    Raises:
        BadRow: It cannot be parsed, holds no structure or several, leaves its symmetry open, contradicts itself, or has
            a structure that cannot be used.
    """
    # CIF is ASCII, and gemmi refuses the rest, such as names of authors. What stands in its place is no letter, which
    # could begin the symbol of an element, and no part of a number.
    text = re.sub(r"[^\x00-\x7f]", "~", text)
    try:
        blocks = [_Items(block) for block in gemmi.cif.read_string(text, check_level=0)]
    except (RuntimeError, ValueError) as error:
        problem = re.sub(r"^string:(\d+)[^ ]*", r"line \1:", str(error)).replace("\n", " ")
        raise BadRow(f"has a CIF that cannot be read ({problem})") from error
    crystals = [_crystal(items) for items in blocks if items.all(_SITE + "fract_x")]
    if not crystals:
        raise BadRow(f"has a CIF without atoms ({_SITE}fract_x)")
    if not all(_equal(crystals[0], crystal) for crystal in crystals):
        raise BadRow(f"has a CIF with {len(crystals)} different structures instead of one")
    return crystals[0]


def _equal(one: RawCrystal, other: RawCrystal) -> bool:
    return one.numbers == other.numbers and all(
        np.allclose(a, b, rtol=0, atol=1e-6)
        for a, b in ((one.lattice, other.lattice), (one.positions, other.positions))
    )


def _crystal(items: _Items) -> RawCrystal:
    """Return the crystal of a block, which must be the only one that agrees with all that the block says."""
    if items.one("_space_group_symop_ssg_operation_algebraic") or items.number("_cell_modulation_dimension"):
        raise BadRow("has a CIF of a modulated structure, whose sites are an average")
    lattice = _lattice(items)
    formula = _formula(items)
    sites = _sites(items, formula)
    source, groups = _symmetry(items)
    fitting = [group for group in groups if fits_cell(lattice, group)]
    if not fitting:
        raise BadRow(f"has a CIF whose {source} and cell contradict each other")
    possible: list[_Atoms] = []
    contradictions: list[BadRow] = []
    for group in fitting:
        try:
            atoms = _expand(lattice, sites, group)
            _check_content(items, atoms, float(np.linalg.det(lattice)), formula)
        except BadRow as contradiction:
            contradictions.append(contradiction)
        else:
            possible.append(atoms)
    if not possible:
        raise contradictions[0]
    atoms = possible[0]
    # Atoms that are too close rule out no setting: they may be a fault of the file in the setting that it means.
    if any(other.site != atoms.site or not np.allclose(other.positions, atoms.positions) for other in possible):
        raise BadRow(f"has a CIF whose {source} leaves its setting or origin open: add the symmetry operations")
    if atoms.doubt is not None:
        raise atoms.doubt
    return refuse_short_bonds(check(lattice, atoms.positions, atoms.symbols, atoms.site), atoms.site)


def _lattice(items: _Items) -> NDArray[np.float64]:
    """Return the lattice vectors as rows in Å: a along x, b in the plane of x and y."""
    names = [*(f"_cell_length_{axis}" for axis in "abc"), *(f"_cell_angle_{angle}" for angle in _ANGLES)]
    for name in names:
        if items.one(name) is None:
            raise BadRow(f"has a CIF without a cell ({name})")
    a, b, c, *degrees = (_number(items.one(name), name) for name in names)
    # The cosine of 90 degrees is not 0 in floating point, which would tilt the axes.
    x, y, z = (round(math.cos(math.radians(angle)), 15) for angle in degrees)
    square = 1 - x * x - y * y - z * z + 2 * x * y * z
    if min(a, b, c) <= 0 or square <= 0:
        raise BadRow("has a cell without volume")
    sine = math.sqrt(1 - z * z)
    lattice = np.array([[a, 0, 0], [b * z, b * sine, 0], [c * y, c * (x - y * z) / sine, c * math.sqrt(square) / sine]])
    volume, given = float(np.linalg.det(lattice)), items.number("_cell_volume")
    if given is not None and abs(volume - given) > _VOLUME_TOLERANCE * volume:
        raise BadRow(f"has a CIF whose cell has a volume of {volume:.2f} Å³ and not of {given:g}, as it says")
    return lattice


def _formula(items: _Items) -> _Formula | None:
    """Return the number of atoms of each element in the formula; None without a formula."""
    text = items.one(_FORMULA)
    if text is None:
        return None
    parts = _FORMULA_PART.findall(text)
    if re.sub(r"[\s'\"]", "", _FORMULA_PART.sub("", text)) or any(symbol not in NUMBERS for symbol, _ in parts):
        raise BadRow(f"has a CIF whose formula cannot be read ({text})")
    formula: _Formula = {}
    for symbol, amount in parts:
        element = "H" if symbol in HEAVY_HYDROGEN else symbol
        formula[element] = formula.get(element, Fraction(0)) + Fraction(amount or 1)
    return {element: amount for element, amount in formula.items() if amount} or None


def _sites(items: _Items, formula: _Formula | None) -> list[_Site]:
    """Return the sites that are listed, each of which one atom has to occupy."""
    sites = []
    for i, site in enumerate(items.sites()):
        label = site["label"] or site["type_symbol"] or f"site {i}"
        symbol = _element(site["type_symbol"], site["label"] or "", formula, i)
        occupancy = site["occupancy"]
        refuse_disorder([(symbol, 1 if occupancy is None else _number(occupancy, f"occupancy of {label}"))], i)
        if any(site[name] not in {None, "0"} for name in _DISORDER):
            raise BadRow(
                f"is disordered (site {i}: {label} is in a disorder group), and only ordered crystals have a graph"
            )
        if site["calc_flag"] == "dum":
            raise BadRow(f"has a CIF with a dummy site ({label})")
        hydrogens = site["attached_hydrogens"]
        if hydrogens is not None and _number(hydrogens, f"attached_hydrogens of {label}"):
            raise BadRow(
                f"has a CIF in which hydrogen atoms are missing: {label} has {hydrogens} of them attached, without "
                "coordinates"
            )
        coordinates = [(site[name], f"{name} of {label}") for name in _COORDINATES]
        multiplicity = site[_MULTIPLICITY[0]] or site[_MULTIPLICITY[1]]
        sites.append(
            _Site(
                label,
                symbol,
                np.array([_number(text, name) for text, name in coordinates]),
                np.array([_rounding(text or "") for text, _ in coordinates]),
                None if multiplicity is None else round(_number(multiplicity, f"multiplicity of {label}")),
            )
        )
    return sites


def _rounding(text: str) -> float:
    """Return the value of the last digit of a fraction with two decimals or more; 0.5 and the like are exact."""
    decimals = re.match(r"[+-]?\d*\.(\d{2,})", text)
    return 10.0 ** -len(decimals[1]) if decimals else 0.0


def _element(type_symbol: str | None, label: str, formula: _Formula | None, site: int) -> str:
    """Return the element that a site's type symbol begins with, or its label where there is none.

    In labels of minerals ("CaM2", "SiT") only the formula says where the element ends, and labels in capital letters
    ("HO1") have two readings.
    """
    name = type_symbol or label
    letters = _LETTERS.match(name)
    text = letters[0] if letters else ""
    known = [symbol for symbol in dict.fromkeys((text, text.title())) if symbol in NUMBERS]
    starts = [symbol for symbol in dict.fromkeys((text[:2].title(), text[:1].upper())) if symbol in NUMBERS]
    if formula is None:
        readings = _TWO_READINGS.get(re.sub(r"\d+$", "", name).upper())
        if readings is None and text.isupper() and len(text) == len(starts) == 2:
            readings = " or ".join(starts)
        if type_symbol is None and readings is not None:
            raise BadRow(f"has a CIF in which the label {name!r} may mean {readings} (site {site}): add type symbols")
        if known:
            return known[0]
    elif text.upper() in _OXYGEN and "O" in formula:
        return "O"
    else:
        elements = {*formula, *(HEAVY_HYDROGEN if "H" in formula else ())}
        # An element that is spelt out is that or nothing.
        if found := [symbol for symbol in ([text] if text in NUMBERS else [*known, *starts]) if symbol in elements]:
            return found[0]
        if known:
            raise BadRow(f"has a CIF in which {name!r} (site {site}) is no element of its formula")
    raise BadRow(f"has an unknown element {name!r} (site {site})")


# --- symmetry


def _symmetry(items: _Items) -> tuple[str, list[Group]]:
    """Return the most explicit item on symmetry in a block, for messages, and the groups that it may mean.

    Raises:
        BadRow: The symmetry is unknown, or the operations, the Hall symbol, the Hermann-Mauguin symbol and the number
            of a block contradict each other.
    """
    listed, number = _listed(items), items.number(*_NUMBER)
    halls, symbols = items.several(*_HALL), items.several(*_SYMBOL)
    of_halls = {hall: group_of_hall(hall) for hall in halls}
    of_symbols = {symbol: settings_of_symbol(symbol, items.one(_CODE)) for symbol in symbols}
    said = [
        (_LISTED, [] if listed is None else [listed]),
        *((f"Hall symbol {hall}", [] if group is None else [group]) for hall, group in of_halls.items()),
        *((f"space group {symbol}", settings) for symbol, settings in of_symbols.items()),
    ]
    # An unknown symbol is no loss where a known one, or operations, say more than the identity.
    unknown = [name for name, groups in said if not groups and name != _LISTED]
    if unknown and number != 1 and all(group == IDENTITY for _, groups in said for group in groups):
        raise BadRow(f"has a CIF without symmetry operations and with the unknown {unknown[0]}")
    if number is not None:
        said.append((f"space group number {number:g}", settings_of_number(number)))
        if not said[-1][1]:
            raise BadRow(f"has a CIF with the unknown {said[-1][0]}")
    found = [(source, groups) for source, groups in said if groups]
    if not found:
        system = items.one(*_SYSTEM)
        if system is not None and system.lower() != "triclinic":
            raise BadRow(f"has a CIF of a {system.lower()} crystal without symmetry operations or a space group")
        return "lack of symmetry", [IDENTITY]
    (source, groups), *others = found
    for other, of_other in others:
        # Operations may be listed in any setting, of which symbols and numbers know few.
        if source == _LISTED and not other.startswith("Hall"):
            agree = type_number(groups[0]) == type_number(of_other[0])
        else:
            groups = [group for group in groups if group in of_other]
            agree = bool(groups)
        if not agree:
            raise BadRow(f"has a CIF whose {source} and {other} contradict each other")
    return source, groups


def _listed(items: _Items) -> Group | None:
    """Return the operations that a block lists; None where it lists none."""
    groups = [parse_operations([text for text in items.all(name) if text]) for name in _OPERATIONS if items.one(name)]
    # The fourth part of magnetic operations is the reversal of time, which moves no atom.
    magnetic, centring = (
        [text.rpartition(",")[0] for text in items.all(name) if text] for name in _MAGNETIC_OPERATIONS
    )
    if magnetic:
        groups.append(parse_operations(magnetic, centring or ["x,y,z"]))
    if any(group != groups[0] for group in groups):
        raise BadRow("has a CIF that lists symmetry operations twice, and not the same")
    return groups[0] if groups else None


# --- atoms


class _Atoms(NamedTuple):
    """All atoms of a cell.

    Attributes:
        positions: Fractional coordinates, [n, 3].
        symbols: Element of each atom, [n].
        site: The site that each atom is an image of, [n].
        doubt: Why the number of atoms is not certain; None where it is.
    """

    positions: NDArray[np.float64]
    symbols: list[str]
    site: list[int]
    doubt: BadRow | None


def _expand(lattice: NDArray[np.float64], sites: Sequence[_Site], group: Group) -> _Atoms:
    """Return all images of the sites; images that differ by the rounding of coordinates are one atom, at their mean.

    Raises:
        BadRow: A site has another multiplicity than the file says.
    """
    rotations, translations = matrices(group)
    lengths = np.linalg.norm(lattice, axis=1)
    positions, of_site, doubt = [], [], None
    for i, site in enumerate(sites):
        images = rotations @ site.position + translations
        tolerance = _TOLERANCE + min(2 * float(np.linalg.norm(site.rounding * lengths)), _MAX_ROUNDING)
        sizes = []
        while len(images):
            apart = images - images[0]
            apart -= np.rint(apart)
            same = np.linalg.norm(apart @ lattice, axis=1) < tolerance
            positions.append(images[0] + apart[same].mean(axis=0))
            sizes.append(int(same.sum()))
            images = images[~same]
        of_site += [i] * len(sizes)
        if len(set(sizes)) > 1:
            doubt = BadRow(f"has a CIF in which the digits of {site.label} do not decide how many atoms it stands for")
        # Some programs write the number of operations that keep the site, in place of that of its images.
        elif site.multiplicity not in {None, len(sizes), sizes[0]}:
            raise BadRow(
                f"has a CIF in which the multiplicity of {site.label} is {site.multiplicity}, but its symmetry gives "
                f"{len(sizes)} atoms"
            )
    return _Atoms(np.array(positions), [sites[i].symbol for i in of_site], of_site, doubt)


def _check_content(items: _Items, atoms: _Atoms, volume: float, formula: _Formula | None) -> None:
    """Compare the atoms in the cell with formula, number of formula units and density.

    Raises:
        BadRow: They contradict each other.
    """
    if atoms.doubt is not None:
        return
    counts = Counter("H" if symbol in HEAVY_HYDROGEN else symbol for symbol in atoms.symbols)
    n_units = None
    if formula is not None:
        n_units = len(atoms.symbols) / float(sum(formula.values()))
        if any(
            abs(counts[symbol] - n_units * float(formula.get(symbol, 0))) > _SAME_COUNT
            for symbol in {*counts, *formula}
        ):
            raise BadRow(
                f"has a CIF whose atoms ({Composition(counts).reduced_formula}) do not match its formula "
                f"({items.one(_FORMULA)}): some may be missing"
            )
    z = items.number("_cell_formula_units_z")
    if z and z not in _possible_z(items, counts, n_units):
        content = " ".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in counts.items())
        raise BadRow(f"has a CIF whose cell holds {content}, which contradicts its number of formula units, {z:g}")
    density = items.number("_exptl_crystal_density_diffrn")
    if density and HEAVY_HYDROGEN.isdisjoint(atoms.symbols):
        found = sum(gemmi.Element(symbol).weight for symbol in atoms.symbols) / volume / _GRAM_PER_CM3
        if abs(found - density) > _DENSITY_TOLERANCE * density:
            raise BadRow(
                f"has a CIF whose atoms have a density of {found:.2f} g/cm³ and not of {density:g}, as it says"
            )


def _possible_z(items: _Items, counts: Counter[str], n_units: float | None) -> set[float]:
    """Return the numbers of formula units that agree with the atoms in the cell."""
    if n_units is None:
        n_atoms = math.gcd(*counts.values())
        return {n for n in range(1, n_atoms + 1) if n_atoms % n == 0}
    possible = {round(n_units, 3)}
    structural = items.one("_chemical_formula_structural")
    if n_units == 1 and structural is not None:
        # pymatgen sums up the whole cell, and counts units of the structural formula.
        with contextlib.suppress(ValueError):
            possible.add(sum(counts.values()) / Composition(structural).num_atoms)
    return possible
