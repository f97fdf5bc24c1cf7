# make demo    the operator at its main job in a simulated cluster, with its page
# make test    everything CI runs: checks, unit and property tests, simulations, the real control plane
# make quick   what to run after each change: formats, lints and unit tests, without root, in a minute or two once built
# make check   formats, lints, licences; links, paths and names of tests in the documents
# make advisories  the crates in use against the RustSec database, which it fetches
# make alone   the tests that use KubeVirt's own CRDs and recordings where these are at hand, as if nothing lay beside the clone
# make lab     the QEMU lab's scenarios, in every mode, and its faults: over an hour; results in docs/results
# make bench   what a decision costs, how fast the operator reacts at 1 000 nodes, what that costs,
#              and, as root, what an agent beside 50 busy VMs costs; what each part of a real sleep takes; 1 000 sleeps,
#              and 10 000 seeds of restless minutes; on the real control plane a death among sleepers and half a restless hour
#              (MIYAKO_RESTLESS_MINUTES, MIYAKO_RESTLESS_SEED)
# make picture the demo's page anew for the README (docs/images)
# make crds    regenerate the CustomResourceDefinitions, also those in their chart, and their reference
# make manifest all of Miyako as target/miyako.yaml, to be applied without Helm

CARGO ?= cargo
DEMO_FLAGS ?=
MANIFEST_FLAGS ?=
TOOLS_CACHE ?= $(or $(MIYAKO_TOOLS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/miyako)
DENY := $(TOOLS_CACHE)/cargo-tools/bin/cargo-deny
DENY_VERSION := 0.20.2

LAB_SCENARIOS ?= fig6 fig6-alpha fig6-alpha-1 random-hour energy-lab

.PHONY: demo test quick check advisories alone lab bench picture crds manifest tools guest packages
.DEFAULT_GOAL := test

demo:
	$(CARGO) run --release --locked --bin miyako -- demo $(DEMO_FLAGS)

# Says what each part took, so that a slow one is seen.
define timed
	@start=$$(date +%s); echo "== $(1)"; $(2) || exit $$?; echo "== $(1): $$(( $$(date +%s) - start )) s"
endef

test: packages
	$(call timed,tools for the control plane,e2e/tools/build)
	$(call timed,guest of the lab,e2e/tools/guest)
	$(call timed,emulated BMCs,e2e/tools/bmcs/install)
	$(call timed,checks,$(MAKE) --no-print-directory check)
	$(call timed,build,$(CARGO) build --locked --workspace --all-targets)
	$(call timed,unit tests,$(CARGO) test --locked --workspace --lib --bins)
	$(call timed,damaged streams,$(CARGO) test --locked --workspace --bench fuzz -- 60)
	$(call timed,properties and objects,$(CARGO) test --locked --workspace $(call only,planner objects rooms))
	$(call timed,simulations,$(CARGO) test --locked --workspace $(call only,simulation outside))
	$(call timed,agents sleeping guests and BMCs,$(CARGO) test --locked --workspace $(call only,accuracy suspend wake))
	$(call timed,machines of the lab,$(CARGO) test --locked --workspace $(call only,nodes migration relay))
	$(call timed,programs and the wire,$(CARGO) test --locked --workspace $(call only,programs))
	$(call timed,real control plane,$(CARGO) test --locked --workspace $(call only,control_plane))
	$(call timed,QEMU lab,$(CARGO) test --locked --workspace $(call only,lab))

# Test binaries by name. They are always chosen from the whole workspace: with a package alone, Cargo would build its
# dependencies again with other features.
only = $(foreach name,$(1),--test $(name))

# The same lints as `make check`, but of what people and the operator run, not of every test.
quick:
	$(call timed,formats,$(CARGO) fmt --all --check)
	$(call timed,lints,$(CARGO) clippy --locked --workspace --lib --bins -- --deny warnings)
	$(call timed,unit tests,$(CARGO) test --locked --workspace --lib)

alone: export MIYAKO_SHARED := /nonexistent
alone:
	$(CARGO) test --locked --workspace --lib sim::kubevirt
	$(CARGO) test --locked --workspace $(call only,objects)
	$(CARGO) test --locked --workspace $(call only,control_plane) crds::

check: $(DENY)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	$(DENY) --workspace check --hide-inclusion-graph bans licenses sources
	$(CARGO) test --locked --workspace $(call only,outside) documents::
	$(CARGO) test --locked --workspace $(call only,rooms)

advisories: $(DENY)
	$(DENY) --workspace check advisories

$(DENY):
	$(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --root $(TOOLS_CACHE)/cargo-tools

# Needs root, and the machine for itself: whatever else runs shows in the figures.
lab: packages
	set -e; for scenario in $(LAB_SCENARIOS); do \
		$(CARGO) run --locked --package miyako-e2e --bin lab -- run e2e/lab/scenarios/$$scenario.yaml; \
	done
	$(CARGO) run --locked --package miyako-e2e --bin lab -- run e2e/lab/scenarios/hundred-moves.yaml --mode auto
	$(CARGO) test --locked --workspace --test lab -- --include-ignored

bench:
	$(CARGO) bench --locked --package miyako-core
	$(CARGO) bench --locked --package miyako-agent --bench load
	$(CARGO) bench --locked --package miyako-agent --bench sleep
	$(CARGO) bench --locked --package miyako-relay --bench throughput
	$(CARGO) bench --locked --package miyako-e2e --bench reaction
	$(CARGO) bench --locked --package miyako --bench days
	$(CARGO) test --locked --release --package miyako --test simulation power:: -- --ignored --nocapture
	$(CARGO) test --locked --workspace --test control_plane -- --ignored

picture: packages
	$(CARGO) test --locked --test outside -- --ignored --exact page::the_readmes_picture

crds:
	$(CARGO) run --locked --bin miyako -- crds --output-dir crds --output-dir charts/miyako-crds/generated
	$(CARGO) run --locked --bin miyako -- crds --format markdown > docs/reference.md

# MANIFEST_FLAGS="--namespace NAMESPACE --set image.registry=… --values FILE"
manifest:
	@[ -n "$$HELM" ] || command -v helm >/dev/null || e2e/tools/build
	@mkdir -p target
	charts/manifest $(MANIFEST_FLAGS) > target/miyako.yaml

tools:
	e2e/tools/build

guest:
	e2e/tools/guest

packages:
	e2e/tools/apt
