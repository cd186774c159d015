import type { Finding } from "../../clouds/cloud.ts";
import { CloudError } from "../../clouds/errors.ts";
import { defineStep } from "../../durable/index.ts";
import { reportOf } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";
import type { CloudImage, ErrorLike, ImageSpec, StagedDisk } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface Survey {
  readonly staged?: StagedDisk;
  readonly images: readonly CloudImage[];
  /** Regions that could not be asked. */
  readonly silent: readonly { readonly region: string; readonly error: ErrorLike }[];
}

/**
 * Looks what of one image is there already, and, where something is to be made, whether it may be made: credentials,
 * permissions, quotas, account settings. Before the first byte; creates nothing.
 * @throws CloudError `already-exists` for a foreign image of that name; the code of the first error that `check` found
 */
export const surveyImagesStep = defineStep({
  name: "survey-images",
  retry: cloudRetry,
  timeoutMs: minutes(10),
  async run(ctx: Ctx, input: { target: string; spec: ImageSpec }): Promise<Survey> {
    const { services } = ctx;
    const { spec, target } = input;
    const cloud = await services.targets.cloud(target, ctx);
    const regions = cloud.can.regionalCopies ? spec.regions : [spec.homeRegion];
    const images: CloudImage[] = [];
    const silent: { region: string; error: ErrorLike }[] = [];
    // The home region decides; if it cannot be asked there is nothing to go on with.
    const home = await cloud.find(spec, spec.homeRegion, ctx);
    refuseForeign(home.foreign, cloud.name, spec, spec.homeRegion);
    if (home.image !== undefined) images.push(home.image);
    const { staged } = home;
    await Promise.all(
      regions
        .filter((region) => region !== spec.homeRegion)
        .map(async (region) => {
          try {
            const found = await cloud.find(spec, region, ctx);
            refuseForeign(found.foreign, cloud.name, spec, region);
            if (found.image !== undefined) images.push(found.image);
          } catch (error) {
            ctx.signal.throwIfAborted();
            silent.push({ region, error: reportOf(error) });
          }
        }),
    );
    if (images.length < regions.length) {
      const findings = await cloud.check([spec], ctx);
      for (const finding of findings) tell(ctx.log, finding);
      refuseBlocking(findings, cloud.name, target, spec);
    }
    images.sort((a, b) => regions.indexOf(a.region) - regions.indexOf(b.region));
    ctx.log.info("surveyed", { target, name: spec.name, there: images.length, wanted: regions.length });
    return { images, silent, ...(staged === undefined ? {} : { staged }) };
  },
});

function refuseForeign(
  foreign: { id: string; reason: string } | undefined,
  cloud: "aws" | "azure" | "gcp" | "local",
  spec: ImageSpec,
  region: string,
): void {
  if (foreign === undefined) return;
  throw new CloudError("already-exists", `${spec.name} is there and is not this image: ${foreign.reason}`, {
    cloud,
    operation: "find",
    region,
    subject: foreign.id,
    next: "Nothing is overwritten and no other name is invented. Remove it, or release under another name.",
  });
}

/** Findings of one region stop that region only, which `replicate` reports; those of home or of all stop the target. */
function refuseBlocking(
  findings: readonly Finding[],
  cloud: "aws" | "azure" | "gcp" | "local",
  target: string,
  spec: ImageSpec,
): void {
  const blocking = findings.filter(
    (finding) => finding.severity === "error" && (finding.region === undefined || finding.region === spec.homeRegion),
  );
  const first = blocking[0];
  if (first === undefined) return;
  const rest = blocking.slice(1).map((finding) => `${finding.subject}: ${finding.message}`);
  throw new CloudError(first.code ?? "invalid", [first.message, ...rest].join("; "), {
    cloud,
    operation: "check",
    region: first.region,
    subject: first.subject,
    next: first.next ?? `Run "slipway doctor" for everything that stands in the way of ${target}.`,
  });
}

function tell(log: { warn(message: string, fields?: object): void }, finding: Finding): void {
  if (finding.severity === "info") return;
  log.warn("check found something", { severity: finding.severity, subject: finding.subject, found: finding.message });
}
