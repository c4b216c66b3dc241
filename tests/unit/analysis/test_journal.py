"""Figures for a paper: sizes, texts, fonts, a file per panel."""

from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pipeline.analysis import style
from pipeline.analysis.importance import fit_budgets, ranking, top_pairs
from pipeline.analysis.items import Item
from pipeline.analysis.journal import PIXELS, PRINT_DPI, STYLES, fit, panels, write_panels
from pipeline.analysis.marginals import marginal_curves, marginal_surfaces
from pipeline.storage.results import Results


def four_panels() -> Figure:
    figure, axes = style.new_figure(4.0, 2, 2, sharex=True, sharey="row")
    for number, axis in enumerate(axes.flat):
        axis.plot([1, 2, 3 + number], label="a line")
    axes[1, 0].set_xlabel("time (s)")
    axes[0, 0].set_yscale("log")
    style.plain_log_ticks(axes[0, 0].yaxis)
    axes[0, 0].set_ylabel("error (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center")
    return figure


def test_every_panel_has_the_labels_that_it_shared() -> None:
    found = dict(panels(four_panels()))
    assert list(found) == ["-1", "-2", "-3", "-4"]
    for name, labels in (("-1", ("time (s)", "error (%)")), ("-2", ("", "error (%)")), ("-3", ("time (s)", ""))):
        (axis,) = found[name].axes
        assert (axis.get_xlabel(), axis.get_ylabel()) == labels
        assert axis.xaxis.get_tick_params()["labelbottom"]
        assert len(found[name].legends) == 1


@pytest.mark.parametrize("name", STYLES)
def test_all_text_of_a_figure_has_the_size_that_the_style_allows(name: str, tmp_path: Path) -> None:
    to, figure = STYLES[name], four_panels()
    figure.text(0, 0, "tiny", size=3)
    fit(figure, to, 0.0, is_panel=False)
    figure.draw_without_rendering()
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]  # type: ignore[attr-defined]
    assert to.smallest_pt <= min(sizes) <= max(sizes) <= to.largest_pt
    assert figure.get_size_inches()[0] == to.width_in


def test_labels_that_panels_share_have_one_size_in_every_file() -> None:
    figure = four_panels()
    figure.axes[0].yaxis.label.set_fontsize(7.5)
    sizes = {axis.yaxis.label.get_fontsize() for axis in (dict(panels(figure))[n].axes[0] for n in ("-1", "-2"))}
    assert sizes == {7.5}


def test_rows_with_names_have_room_for_their_texts() -> None:
    figure, axes = style.new_figure(5.0, 1, 2, sharey=True)
    for axis in axes[0]:
        axis.barh(range(30), range(30))
    axes[0, 0].set_yticks(range(30), [f"hyperparameter {i}" for i in range(30)])
    to = STYLES["single"]
    panel = dict(panels(figure))["-1"]
    fit(panel, to, 0.0, is_panel=True)
    panel.draw_without_rendering()
    boxes = [label.get_window_extent() for label in panel.axes[0].get_yticklabels()]
    assert all(below.y0 >= above.y1 or above.y0 >= below.y1 for below, above in pairwise(boxes))


def test_a_panel_has_the_label_of_its_row_only_where_they_have_one_axis() -> None:
    shared = style.new_figure(2.0, 1, 3, sharex=True)
    own = style.new_figure(2.0, 1, 3)
    for _, axes in (shared, own):
        for axis in axes[0]:
            axis.plot([1, 2])
        axes[0, 2].set_xlabel("share (%)")
    assert [dict(panels(figure))["-1"].axes[0].get_xlabel() for figure, _ in (shared, own)] == ["share (%)", ""]


def test_slides_have_larger_dots_and_warnings_of_readable_size(tmp_path: Path) -> None:
    figure, axes = style.new_figure(3.0)
    dots = axes[0, 0].scatter([1, 2], [1, 2], s=9)
    write_panels(
        Item("one", "One", "", figure=figure, warnings=("This stands on little.",)), tmp_path, STYLES["slides"]
    )
    assert dots.get_sizes()[0] > 20
    (warning,) = [text for text in figure.texts if text.get_text().startswith("Warning")]
    assert warning.get_fontsize() >= STYLES["slides"].smallest_pt


def test_text_takes_the_same_room_in_every_resolution() -> None:
    with style.settings():
        text = style.new_figure(2.0)[0].text(0.5, 0.5, "widening factor, group 1 × ShakeDrop death rate", size=7)
        figure = text.figure
        assert figure is not None
        widths = []
        for dpi in (72, 130, 600):
            figure.set_dpi(dpi)
            figure.draw_without_rendering()
            widths.append(text.get_window_extent().width / dpi)
    assert max(widths) < 1.01 * min(widths)


def test_pdfs_embed_their_fonts_as_type_42_and_pngs_have_600_dots_an_inch(tmp_path: Path) -> None:
    item = Item("one", "One", "", figure=four_panels())
    pdf = write_panels(item, tmp_path, STYLES["single"])
    assert [path.name for path in pdf] == ["one-1.pdf", "one-2.pdf", "one-3.pdf", "one-4.pdf"]
    content = pdf[0].read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    (png,) = write_panels(Item("two", "Two", "", figure=style.new_figure(2.0)[0]), tmp_path, STYLES["single"], PIXELS)
    with Image.open(png) as image:
        assert image.size[0] == pytest.approx(3.5 * PRINT_DPI, abs=1)
        assert image.info["dpi"][0] == pytest.approx(PRINT_DPI, abs=1)


def test_a_panel_takes_its_colour_bar_along(results: Results) -> None:
    fits, _ = fit_budgets(results)
    fits = dict(list(fits.items())[:1])
    surfaces = marginal_surfaces(results, fits, top_pairs(fits, 2), ())
    assert surfaces.figure is not None
    for _, figure in panels(surfaces.figure):
        assert len(figure.axes) == 2
        assert "error" in figure.axes[1].get_ylabel()
    curves = marginal_curves(results, fits, ranking(fits)[:2], ())
    assert curves.figure is not None
    assert len(list(panels(curves.figure))) == 2


def test_the_marginal_curves_of_several_budgets_are_written_one_by_one(results: Results, tmp_path: Path) -> None:
    fits, _ = fit_budgets(results)
    item = marginal_curves(results, fits, ranking(fits)[:1], ())
    written = write_panels(item, tmp_path, STYLES["single"])
    assert [path.name for path in written] == [f"fanova_curves-{number + 1}.pdf" for number in range(len(fits))]
    assert len(fits) > 1
