import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { SlipwayError } from "../../lib/errors.ts";
import { EXIT, table } from "../output.ts";
import {
  FRONTED,
  type FrontedCloud,
  loadRehearsal,
  type RunningRehearsal,
  writeRehearsalConfig,
} from "../rehearsal.ts";
import type { Session } from "../session.ts";
import { releaseWith } from "./release.ts";
import { untilStopped } from "./serve.ts";

/** Simulated clouds to try things on: for this program with --compose, else for any vendor's client. */
export async function rehearse(
  session: Session,
  options: {
    compose?: string;
    scenario?: string;
    system?: string;
    listScenarios?: boolean;
    inFrontOf?: readonly string[];
    upstreamCa?: string;
  },
): Promise<number> {
  const { startRehearsal, listScenarios } = await loadRehearsal();
  if (options.listScenarios === true) {
    const scenarios = listScenarios();
    session.output.data(scenarios, (paint) =>
      scenarios.map(({ name, description }) => `${paint.bold(name)}\n  ${description}`).join("\n"),
    );
    return EXIT.done;
  }
  if (options.inFrontOf !== undefined) return standInFront(session, options.inFrontOf, options);
  const directory = join(resolve((await session.config()).data_dir, "rehearsals"), `run-${process.pid}`);
  await mkdir(join(directory, "blobs"), { recursive: true });
  const rehearsal = await startRehearsal({
    blobDir: join(directory, "blobs"),
    ...(options.scenario === undefined ? {} : { scenario: options.scenario }),
  });
  const config = await writeRehearsalConfig(rehearsal, directory, { gcp: true });
  const configured = session.withConfig(config);
  try {
    if (options.compose !== undefined) {
      const engine = await configured.engine("service");
      const { compose, ...rest } = options;
      return await releaseWith(configured, engine, compose!, rest);
    }
    session.output.data({ urls: rehearsal.urls, config, ca: join(directory, "ca.crt") }, () =>
      instructions(rehearsal, directory, config),
    );
    await untilStopped(session.signal);
    return EXIT.done;
  } finally {
    await configured.close();
    await rehearsal.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Lets a scenario happen to servers that are not ours, until stopped. */
async function standInFront(
  session: Session,
  wanted: readonly string[],
  options: { scenario?: string; upstreamCa?: string },
): Promise<number> {
  const fronts = wanted.map(frontOf);
  const { startFronts } = await loadRehearsal();
  const upstreamCa = options.upstreamCa === undefined ? undefined : await readFile(options.upstreamCa, "utf8");
  const running = await startFronts(fronts, { scenario: options.scenario, upstreamCa });
  const directory = join(resolve((await session.config()).data_dir, "rehearsals"), `front-${process.pid}`);
  try {
    await mkdir(directory, { recursive: true });
    const ca = join(directory, "ca.crt");
    await writeFile(ca, running.caPem);
    const shown = running.fronts.map(({ cloud, upstream, url }) => ({ cloud, upstream, url }));
    session.output.data({ fronts: shown, ca }, (paint) =>
      [
        table(
          ["cloud", "point clients at", "which stands in front of"],
          shown.map((one) => [one.cloud, one.url, one.upstream]),
          paint,
        ),
        "",
        `They have to trust ${ca}. Ctrl-C ends it.`,
      ].join("\n"),
    );
    await untilStopped(session.signal);
    return EXIT.done;
  } finally {
    await running.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** `aws=http://127.0.0.1:5000` */
function frontOf(text: string): { cloud: FrontedCloud; url: string } {
  const at = text.indexOf("=");
  const [cloud, url] = [text.slice(0, at) as FrontedCloud, text.slice(at + 1)];
  if (at > 0 && FRONTED.includes(cloud) && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol))
    return { cloud, url };
  throw new SlipwayError("invalid", "expected CLOUD=URL, as in aws=http://127.0.0.1:5000", {
    subject: text,
    next: `CLOUD is one of ${FRONTED.join(", ")}: how that server names its calls and how it says no.`,
  });
}

function instructions({ urls, credentials }: RunningRehearsal, directory: string, config: string): string {
  return `Simulated clouds are up; Ctrl-C stops them and forgets everything.

Slipway      bin/slipway --config ${config} release COMPOSE

AWS          export AWS_ACCESS_KEY_ID=${credentials.aws.accessKeyId} AWS_REGION=us-east-1
             export AWS_SECRET_ACCESS_KEY=$(cat ${join(directory, "secrets/aws")})
             export AWS_CA_BUNDLE=${join(directory, "ca.crt")}
             aws ec2 describe-images --owners self --endpoint-url ${urls.ec2}
             aws ebs …  --endpoint-url ${urls.ebs}

Azure        authority ${urls.azure.authority}  resource manager ${urls.azure.management}
             blob ${urls.azure.blob}  (tenant ${credentials.azure.tenantId}, client ${credentials.azure.clientId})
             storage account ${credentials.azure.storageAccount}, key in ${join(directory, "secrets/azure-storage")}

Google Cloud storage, compute and resource manager ${urls.gcp}  token ${urls.gcp}/token
             project ${credentials.gcp.project}, bucket ${credentials.gcp.bucket}, key in ${join(directory, "secrets/gcp.json")}

Registry     skopeo inspect --cert-dir ${directory} docker://${new URL(urls.registry).host}/fedora/fedora:43
             user ${credentials.registry.username}, password in ${join(directory, "secrets/registry")}`;
}
