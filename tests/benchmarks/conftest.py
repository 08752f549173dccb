"""After pytest-benchmark's tables of seconds: rates, and how many times the first of its group is faster."""


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    groups = {}
    for bench in session.benchmarks if session else []:
        if "rate" in bench.extra_info:
            row = (bench.params["who"], bench.extra_info["rate"], bench.extra_info["unit"])
            groups.setdefault(bench.group, []).append(row)
    for group, rows in groups.items():
        terminalreporter.write_line(f"\n{group}")
        for who, rate, unit in rows:
            terminalreporter.write_line(f"  {who:<20} {rate:>10.4g} {unit}, {rows[0][1] / rate:.2f}")
