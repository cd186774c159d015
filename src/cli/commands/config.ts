import { configJsonSchema, ruleConfigs } from "../../config/index.ts";
import { EXIT } from "../output.ts";
import type { Session } from "../session.ts";

export async function checkConfig(session: Session): Promise<number> {
  const config = await session.config();
  const facts = {
    files: config.files,
    targets: Object.keys(config.targets),
    systems: Object.keys(config.systems),
    rules: ruleConfigs(config).map(({ name }) => name),
  };
  const count = (what: "target" | "system" | "rule") => {
    const { length } = facts[`${what}s`];
    return `${length} ${what}${length === 1 ? "" : "s"}`;
  };
  session.output.data(facts, (paint) =>
    config.files.length === 0
      ? `There is no slipway.yaml; the defaults are fine. ${paint.dim("See examples/fedora.yaml.")}`
      : `${paint.good("✔")} ${config.files.join(", ")}: ${count("target")}, ${count("system")}, ${count("rule")}`,
  );
  return EXIT.done;
}

export async function printSchema(_session: Session): Promise<number> {
  process.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
  return EXIT.done;
}
