// Everything relies on type stripping and on APIs of the pinned Node: a run on the host's older Node would fail in
// ways that look like bugs of ours, so it is refused with the way out.
const major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
  throw new Error(`Tests run on Node 24 or later, this is ${process.version}. Use "make test" or "npm test".`);
}
