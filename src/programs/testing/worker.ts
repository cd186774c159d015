// A worker to be killed: runs a family, and says who they are.
import { FAMILY, runScript } from "./run.ts";

const [, , root, owner] = process.argv;
runScript(FAMILY, { root: root!, owner: owner! }, { onLine: (line) => process.stdout.write(`${line}\n`) }).result.catch(
  () => {},
);
