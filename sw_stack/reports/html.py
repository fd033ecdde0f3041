"""The report as one self-contained HTML file: figures as inline SVG, no script that it depends on, no network."""

from __future__ import annotations

import re
from functools import partial
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from sw_stack.comparison.aggregate import MEASURES, against_best_other, best_methods, means, ratios
from sw_stack.comparison.cell import Results
from sw_stack.comparison.heat import derating_sentence
from sw_stack.reports.figures import DRAWINGS
from sw_stack.reports.figures.speed import REFERENCE, has_reference, machines_of
from sw_stack.reports.style import render

PROPOSED = ("elmoe3d-4gb", "elmoe3d-8gb")


def html(results: Results, title: str) -> str:
    """The whole document."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("sw_stack.reports").joinpath("report.html.j2").read_text())
    figures = []
    for drawing in DRAWINGS:
        figure = drawing.draw(results)
        if figure is not None:
            figures.append({"drawing": drawing, "svg": inline_svg(render(figure, "svg").decode(), drawing.name)})
    return template.render(
        title=title,
        provenance=results.provenance,
        figures=figures,
        means=mean_rows(results),
        rivals=rival_rows(results),
        chosen=chosen_rows(results),
        derating=derating_sentence(results.cells),
        unfit=[cell for cell in results.cells if not cell.fits],
        assumed=assumed_rows(results),
        machines=results.notes.get("machines", {}),
        assumptions=results.notes.get("assumptions", []),
        text=results.notes.get("text"),
        counts=results.notes.get("counts", {}),
        reference=REFERENCE,
    )


def inline_svg(svg: str, name: str) -> str:
    """An SVG document as an element: no prolog, identifiers made unique with ``name``, at most its natural size."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", body)
    width = float(re.search(r'<svg [^>]*?width="([\d.]+)pt"', body).group(1))
    opening = re.match(r"<svg [^>]*>", body).group(0)
    scalable = re.sub(r' (width|height)="[\d.]+pt"', "", opening).replace("<svg ", '<svg role="img" ')
    return scalable[:-1] + f' style="max-width: {width * 4 / 3:.0f}px">' + body[len(opening) :]


def mean_rows(results: Results) -> list[dict]:
    """Per machine and measure: means against the reference, with and without assumed cells."""
    if not has_reference(results):
        return []
    rows = {name: {"machine": name} for name in machines_of(results)}
    for measure, function in MEASURES.items():
        for entry in means(results.cells, partial(ratios, reference=REFERENCE, measure=function)):
            rows[entry.machine][measure] = entry
    return list(rows.values())


def rival_rows(results: Results) -> list[dict]:
    """The proposed machines against the best other one of each workload, GPUs not among them."""
    rows = []
    gpus = {name for name, m in results.notes.get("machines", {}).items() if m.get("gpu")}
    rivals = [name for name in machines_of(results) if name not in PROPOSED and name not in gpus]
    for machine in PROPOSED:
        row = {"machine": machine}
        for measure, function in MEASURES.items():
            compare = partial(against_best_other, machine=machine, rivals=rivals, measure=function)
            found = means(results.cells, compare)
            if found:
                row[measure] = found[0]
        if len(row) > 1:
            rows.append(row)
    return rows


def chosen_rows(results: Results) -> list:
    """The best method's cell of every machine and workload."""
    return [cell for machines in best_methods(results.cells).values() for cell in machines.values()]


def assumed_rows(results: Results) -> list[tuple[str, int]]:
    """Assumed inputs and how many cells rest on each, most first."""
    count: dict[str, int] = {}
    for cell in results.cells:
        for what in cell.assumed:
            count[what] = count.get(what, 0) + 1
    return sorted(count.items(), key=lambda item: -item[1])
