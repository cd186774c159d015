import type http from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { AWS_PUBLISHER, createAwsSimulator } from "../../rehearsal/src/aws/index.ts";
import { createAuthority, serve } from "../../rehearsal/src/tls.ts";
import { memoryJournal } from "../images/journal.ts";
import { quietCall } from "../lib/call.ts";
import type { ImageSpec } from "../model.ts";
import { openAws } from "./aws/aws.ts";
import { AWS_SPEC, HURRIED } from "./aws/testing/harness.ts";
import * as azure from "./azure/testing/harness.ts";
import type { Cloud } from "./cloud.ts";
import { CloudError } from "./errors.ts";
import * as gcp from "./gcp/testing/harness.ts";
import { fakeDisk } from "./testing/disks.ts";

const DEADLINE_MS = 150;

/** Peers that take every connection and request, and then go quiet or say next to nothing. */
const QUIET: Record<string, http.RequestListener> = {
  "answers nothing": () => {},
  "answers headers and stops": (_request, response) => {
    response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
    response.write("{");
  },
  "says a byte now and then": (_request, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    const dripping = setInterval(() => response.write(" "), DEADLINE_MS / 5);
    response.on("close", () => clearInterval(dripping));
  },
};

/** Drivers that sign in where they always do, and of whose services one is quiet. */
const DRIVERS: Record<string, (how: http.RequestListener) => Promise<{ cloud: Cloud; spec: ImageSpec }>> = {
  "AWS's images": (how) => openAmazon(how, (url) => ({ ec2: url })),
  "AWS's snapshots": (how) => openAmazon(how, (url) => ({ ebs: url })),
  "AWS's blocks": (how) => openAmazon(how, (url) => ({ ebs: url }), /\/blocks\//),
  "Azure's galleries": (how) => openAzure(how, (url) => ({ management: url })),
  "Azure's blobs": (how) => openAzure(how, (url) => ({ blob: `${url}/fedoraimageupload` })),
  "Google Cloud's images": (how) => openGoogle(how, (url) => ({ compute: url })),
  "Google Cloud's objects": (how) => openGoogle(how, (url) => ({ storage: url })),
};

const amazonAuthority = createAuthority();

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

describe.each(Object.keys(QUIET))("a peer that %s", (how) => {
  test.each(Object.keys(DRIVERS))("is unavailable after the deadline: %s", async (name) => {
    const { cloud, spec } = await DRIVERS[name]!(QUIET[how]!);
    const error = await cloud.upload(fakeDisk(spec.diskBytes, [1], "quiet"), spec, memoryJournal(), quietCall()).then(
      () =>
        cloud.find(spec, spec.homeRegion, quietCall()).then(
          () => undefined,
          (caught: unknown) => caught,
        ),
      (caught: unknown) => caught,
    );
    expect(error).toBeInstanceOf(CloudError);
    expect(error).toMatchObject({ code: "unavailable" });
  });
});

/** `only`: the rest is answered as ever. */
async function openAmazon(how: http.RequestListener, quiet: (url: string) => Record<string, string>, only = /^/) {
  const simulator = createAwsSimulator();
  const tls = await amazonAuthority;
  const served = await serve(simulator.handler, { tls });
  const listener: http.RequestListener = (request, response) =>
    only.test(request.url ?? "") ? how(request, response) : simulator.handler(request, response);
  const peer = await serve(listener, { tls });
  const cloud = openAws({
    ...{ account: AWS_PUBLISHER.account, homeRegion: AWS_SPEC.homeRegion, credentials: AWS_PUBLISHER, ca: tls.ca },
    endpoints: { ec2: served.url, ebs: served.url, sts: served.url, ...quiet(peer.url) },
    pace: { ...HURRIED, answerMs: DEADLINE_MS, blockAnswerMs: DEADLINE_MS },
  });
  closing.push(
    () => cloud.close(),
    () => peer.close(),
    () => served.close(),
    async () => simulator.close(),
  );
  return { cloud, spec: AWS_SPEC };
}

async function openAzure(how: http.RequestListener, quiet: (url: string) => Record<string, string>) {
  const [harness, peer] = [await azure.azureHarness(), await serve(how, { tls: await azure.harnessAuthority() })];
  closing.push(
    () => harness.close(),
    () => peer.close(),
  );
  const endpoints = { ...harness.options.endpoints, ...quiet(peer.url) };
  const pace = { ...harness.options.pace, callDeadline: DEADLINE_MS, pageDeadline: DEADLINE_MS };
  return { cloud: harness.open({ endpoints, pace }), spec: harness.spec() };
}

async function openGoogle(how: http.RequestListener, quiet: (url: string) => Record<string, string>) {
  const [harness, peer] = [await gcp.gcpHarness(), await serve(how, { tls: await gcp.harnessAuthority() })];
  closing.push(
    () => harness.close(),
    () => peer.close(),
  );
  const endpoints = { ...harness.options.endpoints!, ...quiet(peer.url) };
  const pace = { ...harness.options.pace, callDeadline: DEADLINE_MS, partDeadline: DEADLINE_MS };
  return { cloud: harness.open({ endpoints, pace }), spec: harness.spec() };
}
