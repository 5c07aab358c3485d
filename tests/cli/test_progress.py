import io

from rich.console import Console

from xt.cli.progress import ProgressBars


def bars_in_a_log(seconds_between_lines: float) -> tuple[ProgressBars, io.StringIO]:
    log = io.StringIO()
    return ProgressBars(Console(file=log, width=60), seconds_between_lines), log


def test_in_a_log_file_only_the_end_and_some_lines_between_are_shown():
    bars, log = bars_in_a_log(seconds_between_lines=1000)
    with bars:
        bar = bars.add("slide[1].svs", unit="regions")
        for done in range(1, 101):
            bar.update(done, 100)
        bar.update(100, 100)  # said twice, shown once
    assert log.getvalue() == "slide[1].svs: 100 of 100 regions, 0 s\n"

    bars, log = bars_in_a_log(seconds_between_lines=0)
    with bars:
        bars.add("slide.svs", total=3, unit="regions").advance(2)
    assert log.getvalue() == "slide.svs: 2 of 3 regions, 0 s\n"


def test_on_a_terminal_bars_are_drawn():
    screen = io.StringIO()
    with ProgressBars(Console(file=screen, force_terminal=True, width=120)) as bars:
        bar = bars.add("slide[1].svs", unit="regions")
        bar.update(5, 20)
        bars.print("a line above")
        gone = bars.add("other.svs")
        gone.remove()
    shown = screen.getvalue()
    assert "slide[1].svs" in shown
    assert "5/20" in shown
    assert "a line above" in shown
