"""The report in a real browser: pointing, pinning, filtering and sorting, without a console message or a request."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from pipeline.analysis import style
from pipeline.analysis.live import write_live_page
from pipeline.run.folder import RunFolder
from pipeline.search.pareto import on_front
from pipeline.storage.results import Results, load_results
from tests.unit.analysis.test_live import status_of

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs Chromium and its driver")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1400,1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def results(reported_run: RunFolder) -> Results:
    return load_results(reported_run.collected)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def page(chromium: webdriver.Chrome, reported_run: RunFolder) -> Iterator[webdriver.Chrome]:
    """The report, freshly loaded; whatever it says on its console or asks the network for fails the test."""
    chromium.get_log("performance")
    chromium.get(reported_run.report.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []
    assert asked_outside(chromium) == []


def asked_outside(browser: webdriver.Chrome) -> list[str]:
    """What the browser has asked for that is neither a file nor inside of the page."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked
    # "chrome:" is what the browser's own first tab reads out of the browser itself, while the page already loads.
    return [url for url in asked if not url.startswith(("file:", "data:", "chrome:"))]


def plot_of(page: webdriver.Chrome, name: str) -> WebElement:
    plot = page.find_element(By.CSS_SELECTOR, f'.plot[data-figure="{name}"]')
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
    WebDriverWait(page, 10).until(lambda _: ink(page, plot) is not None)
    return plot


def ink(page: webdriver.Chrome, plot: WebElement) -> int | None:
    """How many pixels the script has drawn over a figure; None: its canvas is not there yet."""
    found: int | None = page.execute_script(
        """const canvas = arguments[0].querySelector("canvas");
        if (!canvas || !canvas.width) return null;
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext("2d", {willReadFrequently: true});
        context.drawImage(canvas, 0, 0);
        const pixels = context.getImageData(0, 0, copy.width, copy.height).data;
        return pixels.reduce((sum, value, at) => sum + (at % 4 === 3 && value > 0 ? 1 : 0), 0);""",
        plot,
    )
    return found


def place_of(page: webdriver.Chrome, name: str, row: int) -> tuple[int, int]:
    """Where a figure shows a row of its first set of marks, in pixels from the figure's middle."""
    x, y = page.execute_script(
        """const [name, row] = arguments;
        const set = JSON.parse(document.getElementById("explorer-data").textContent).figures[name][0];
        const read = (text, type) => new type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
        const at = typeof set.rows === "number" ? row : read(set.rows, Uint16Array).indexOf(row);
        const box = document.querySelector(`.plot[data-figure="${name}"]`).getBoundingClientRect();
        return [(read(set.x, Uint16Array)[at] / 65000 - 0.5) * box.width,
                (0.5 - read(set.y, Uint16Array)[at] / 65000) * box.height];""",
        name, row,
    )  # fmt: skip
    return round(x), round(y)


def best_row(results: Results) -> int:
    done = results.finished()
    return int(done[done["budget"] == done["budget"].max()]["loss"].idxmin())


def point_at(page: webdriver.Chrome, name: str, row: int) -> ActionChains:
    plot = plot_of(page, name)
    return ActionChains(page, duration=0).move_to_element_with_offset(plot, *place_of(page, name, row))


def test_pointing_at_a_dot_tells_its_configuration_and_rings_it(page: webdriver.Chrome, results: Results) -> None:
    row = best_row(results)
    point_at(page, "error_over_time", row).perform()
    tip = page.find_element(By.CLASS_NAME, "tip")
    assert tip.is_displayed()
    assert tip.text.startswith(results.evaluations["config_id"][row])
    assert f"{100 * results.evaluations['loss'][row]:.2f}%" in tip.text
    plot = plot_of(page, "error_over_time")
    assert (ink(page, plot) or 0) > 20
    ActionChains(page, duration=0).move_to_element(page.find_element(By.TAG_NAME, "h1")).perform()
    assert not tip.is_displayed()
    assert ink(page, plot_of(page, "error_over_time")) == 0


def test_a_click_pins_a_configuration_in_every_figure_until_it_is_taken_off(
    page: webdriver.Chrome, results: Results
) -> None:
    row = best_row(results)
    point_at(page, "error_over_time", row).click().perform()
    pinned = page.find_element(By.ID, "pinned")
    assert pinned.get_attribute("data-configuration") == results.evaluations["config_id"][row]
    for name in (
        "parallel_coordinates", "samples_over_time", "error_per_budget", "footprint", "gantt", "slices",
        "fanova_curves", "fanova_surfaces", "incumbent_curve", "choice",
    ):  # fmt: skip
        plot = plot_of(page, name)
        WebDriverWait(page, 10).until(lambda _, p=plot: (ink(page, p) or 0) > 20)
    marked = page.find_elements(By.CSS_SELECTOR, "#ten_best tr.pinned")
    assert [row.find_elements(By.TAG_NAME, "td")[1].text for row in marked] == [results.evaluations["config_id"][row]]
    pinned.find_element(By.XPATH, ".//button[text()='unpin']").click()
    assert not pinned.is_displayed()
    assert ink(page, plot_of(page, "error_per_budget")) == 0


def choose(page: webdriver.Chrome, **chosen: str) -> str:
    """Choose two metrics and a budget by their texts; the caption of what is drawn then."""
    for name, text in chosen.items():
        Select(page.find_element(By.CSS_SELECTOR, f"#choice select[name={name}]")).select_by_visible_text(text)
    return page.find_element(By.CSS_SELECTOR, "#choice figcaption").text


def first_of_the_front(page: webdriver.Chrome) -> tuple[int, int]:
    """Where the leftmost dot of the chosen metrics' front lies, in pixels from the figure's middle."""
    x, y = page.execute_script(
        """const svg = document.querySelector("#choice svg"), box = svg.getBoundingClientRect();
        const dot = svg.querySelector(".best").getBoundingClientRect();
        return [dot.x + dot.width / 2 - box.x - box.width / 2, dot.y + dot.height / 2 - box.y - box.height / 2];"""
    )
    return round(x), round(y)


def test_any_two_metrics_are_drawn_with_their_front_and_what_it_dominates(
    page: webdriver.Chrome, results: Results
) -> None:
    plot = plot_of(page, "choice")
    for budget in results.budgets[-1], results.budgets[0]:
        done = results.finished()
        done = done[done["budget"] == budget]
        values = results.metrics.loc[done.index, ["training_loss", "parameters"]].dropna()
        best = on_front(values.to_numpy())
        label = style.budget_label(budget, results.budget_unit)
        caption = choose(page, up="training loss (nats)", across="parameters", budget=label)
        assert caption.startswith(f"{len(values)} configurations on {label}; the best lie at the lower left.")
        assert f"front of the two, {best.sum()} configurations" in caption
        assert len(plot.find_elements(By.CLASS_NAME, "best")) == best.sum()
        assert len(plot.find_elements(By.CLASS_NAME, "dominated")) == (~best).sum()
    assert "at the lower right" in choose(page, across="training images per second")


def test_the_chosen_metrics_answer_the_pointer_a_pin_and_the_filter(page: webdriver.Chrome, results: Results) -> None:
    plot = plot_of(page, "choice")
    choose(page, up="validation error (%)", across="parameters")
    done = results.finished()
    done = done[done["budget"] == done["budget"].max()]
    smallest = done.sort_values(["parameters", "loss"])["config_id"].iloc[0]
    ActionChains(page, duration=0).move_to_element_with_offset(plot, *first_of_the_front(page)).click().perform()
    tip = page.find_element(By.CLASS_NAME, "tip").text
    assert tip.startswith(smallest)
    assert "parameters: " in tip
    assert page.find_element(By.ID, "pinned").get_attribute("data-configuration") == smallest
    assert (ink(page, plot) or 0) > 20
    ActionChains(page).send_keys(Keys.ESCAPE).move_to_element(page.find_element(By.TAG_NAME, "h1")).perform()
    assert ink(page, plot_of(page, "choice")) == 0
    page.execute_script("document.querySelector('#explorer > details > summary').click()")
    page.find_element(By.CSS_SELECTOR, "#explorer input[name=budget]").click()
    assert "dimmed" in str(plot.find_element(By.TAG_NAME, "svg").get_attribute("class"))
    dots = ink(page, plot) or 0
    page.find_element(By.CSS_SELECTOR, "#explorer [name=proposal][value=model]").click()
    assert 20 < (ink(page, plot) or 0) < dots


def shown_rows(page: webdriver.Chrome) -> list[list[str]]:
    rows: list[list[str]] = page.execute_script(
        """return [...document.querySelectorAll("#evaluations tbody tr")]
        .map((row) => [...row.cells].map((cell) => cell.textContent));"""
    )
    return rows


def test_a_filter_leaves_what_fits_in_figures_and_table(page: webdriver.Chrome, results: Results) -> None:
    plot = plot_of(page, "error_over_time")
    assert ink(page, plot) == 0
    page.find_element(By.CSS_SELECTOR, "#explorer > details > summary").click()
    for box in page.find_elements(By.CSS_SELECTOR, "#explorer input[name=budget]")[:-1]:
        box.click()
    largest = results.evaluations[results.evaluations["budget"] == max(results.budgets)]
    output = page.find_element(By.CSS_SELECTOR, "#explorer [role=status]")
    assert output.text == f"{len(largest)} of {len(results.evaluations)} evaluations"
    assert (ink(page, plot) or 0) > 20
    assert "dimmed" in str(plot.find_element(By.TAG_NAME, "img").get_attribute("class"))
    rates = results.configurations["learning_rate"][largest["configuration"]]
    middle = float(np.median(rates))
    low = page.find_element(By.CSS_SELECTOR, '[data-hyperparameter="learning_rate"] input')
    low.send_keys(str(middle))
    assert output.text == f"{int((rates >= middle).sum())} of {len(results.evaluations)} evaluations"
    assert len(shown_rows(page)) == int((rates >= middle).sum())
    page.find_element(By.CSS_SELECTOR, "#explorer button[type=reset]").click()
    WebDriverWait(page, 10).until(lambda _: output.text.startswith(f"{len(results.evaluations)} of"))
    assert ink(page, plot) == 0


def test_tables_sort_by_a_click_and_filter_by_a_text(page: webdriver.Chrome, results: Results) -> None:
    losses = results.finished()["loss"].sort_values()
    assert [row[2] for row in shown_rows(page)[:5]] == [f"{100 * loss:.2f}%" for loss in losses[:5]]
    column = "#evaluations th:nth-child(3)"
    page.execute_script("for (const _ of [1, 2]) document.querySelector(arguments[0]).click()", f"{column} button")
    assert page.find_element(By.CSS_SELECTOR, column).get_attribute("aria-sort") == "descending"
    assert shown_rows(page)[0][2] == f"{100 * losses.iloc[-1]:.2f}%"
    box = page.find_element(By.CSS_SELECTOR, "#search_space .filter-rows")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", box)
    box.send_keys("widening")
    rows: list[Any] = page.find_elements(By.CSS_SELECTOR, "#search_space tbody tr")
    assert [row.is_displayed() for row in rows].count(True) == 3


def test_a_row_of_the_table_pins_its_configuration(page: webdriver.Chrome) -> None:
    first = shown_rows(page)[0][0]
    page.execute_script("document.querySelector('#evaluations tbody tr').click()")
    assert page.find_element(By.ID, "pinned").get_attribute("data-configuration") == first


def test_the_live_page_renews_itself_as_the_run_folder_changes(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_live_page(folder, status_of(done=3))
    chromium.get_log("performance")
    chromium.get(folder.live_page.as_uri())
    assert chromium.find_element(By.ID, "done").text == "4 of 12"
    patient = WebDriverWait(chromium, 60, ignored_exceptions=[IndexError, StaleElementReferenceException])
    write_live_page(folder, status_of(done=8))
    patient.until(lambda page: page.find_elements(By.ID, "done")[0].text == "9 of 12")
    write_live_page(folder, status_of("finished", done=11))
    patient.until(lambda page: page.find_elements(By.ID, "state")[0].text == "finished")
    assert chromium.get_log("browser") == []
    assert asked_outside(chromium) == []
