# make run      install what is needed, start the feeds application, print its address
# make test     everything that has to hold
# make check    the part of it that takes a minute
# make bench    measure, and compare with docs/benchmarks.md
# make clean    remove what these commands made here
.PHONY: run test check bench clean

run:
	@scripts/setup run
	@.venv/bin/paas dev --demo feeds --detach
	@echo
	@echo 'The command is .venv/bin/paas; `. .venv/bin/activate` puts it on your path.'

test:
	@scripts/setup test
	@scripts/test

check:
	@scripts/setup test
	@scripts/test check

bench:
	@scripts/setup test
	@.venv/bin/python -m bench

clean:
	@if [ -x .venv/bin/paas ]; then .venv/bin/paas down >/dev/null 2>&1 || true; fi
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
