import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { EXIT } from "../output.ts";
import { loadRehearsal, type RunningRehearsal, writeRehearsalConfig } from "../rehearsal.ts";
import type { Session } from "../session.ts";
import { releaseWith } from "./release.ts";
import { untilStopped } from "./serve.ts";

/** Simulated clouds to try things on: for this program with --compose, else for any vendor's client. */
export async function rehearse(
  session: Session,
  options: { compose?: string; scenario?: string; system?: string },
): Promise<number> {
  const { startRehearsal } = await loadRehearsal();
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

Google Cloud storage, compute and resource manager ${urls.gcp}  token ${urls.gcp}/token
             project ${credentials.gcp.project}, bucket ${credentials.gcp.bucket}, key in ${join(directory, "secrets/gcp.json")}

Registry     skopeo inspect --cert-dir ${directory} docker://${new URL(urls.registry).host}/fedora/fedora:43
             user ${credentials.registry.username}, password in ${join(directory, "secrets/registry")}`;
}
