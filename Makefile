# make demo   environment, build, and the main job on embedded real data
# make test   environment, build, lint, types and all tests
# make fuzz   long fuzzing under sanitizers; figures in results/engine/fuzz.json (LOADER=..., DIFFERENTIAL=..., SEED=...)
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
NATIVE := CMakeLists.txt $(wildcard $(foreach e,cpp hpp inl,native/*.$(e) native/bench/*.$(e) native/training/*.$(e)))
LOADER ?= 10000000
DIFFERENTIAL ?= 100000
SEED ?= 0

.PHONY: demo test lint fuzz bench clean
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	$(BIN)/bitspike demo

test: $(INSTALLED) lint
	sh scripts/install_test_tools.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

# torch first and by its exact version: the constraint alone does not stop pip from looking at larger builds.
$(INSTALLED): pyproject.toml constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

fuzz: $(INSTALLED)
	cmake -S . -B build/fuzz -DBITSPIKE_FUZZ=ON -DBITSPIKE_PYTHON=OFF
	cmake --build build/fuzz
	cmake -S . -B build/fuzz-thread -DBITSPIKE_FUZZ=ON -DBITSPIKE_SANITIZE=thread -DBITSPIKE_PYTHON=OFF
	cmake --build build/fuzz-thread --target check_threads check_pool
	$(BIN)/python -m tests.engine.fuzz --loader $(LOADER) --differential $(DIFFERENTIAL) --seed $(SEED)

bench: $(INSTALLED)
	$(BIN)/python benchmarks/engine.py

clean:
	rm -rf .venv build runs
