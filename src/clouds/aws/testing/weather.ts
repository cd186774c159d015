/**
 * The pretended AWS with weather of its own in every region: dead, silent, throttling, or losing answers.
 * The region is the one the request is signed for.
 */
import type http from "node:http";
import https from "node:https";
import { EC2 } from "@aws-sdk/client-ec2";
import { AWS_PUBLISHER, createAwsSimulator } from "../../../../rehearsal/src/aws/index.ts";
import { createAuthority, serve } from "../../../../rehearsal/src/tls.ts";
import { memoryJournal, type UploadJournal } from "../../../images/journal.ts";
import { MiB } from "../../../lib/units.ts";
import type { ImageSpec, Region } from "../../../model.ts";
import type { Cloud, JournalOf } from "../../cloud.ts";
import { type AwsOptions, openAws } from "../aws.ts";
import { AWS_SPEC, HURRIED } from "./harness.ts";

/** Where Fedora's images go. */
export const REGIONS_22: readonly Region[] = [
  ...["us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1", "af-south-1", "me-south-1"],
  ...["eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "eu-south-1", "eu-central-1", "ap-east-1", "ap-south-1"],
  ...["ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3"],
];

export type Weather = Awaited<ReturnType<typeof openWeather>>;

type Which = (request: http.IncomingMessage) => boolean;

export async function openWeather(changes: Partial<AwsOptions> = {}) {
  const simulator = createAwsSimulator({ settings: { optIn: "opted-in", publicImages: 10 } });
  const dead = new Set<Region>();
  const held = new Map<Region, { which: Which; until: Promise<void> }>();
  const throttled = new Map<Region, number>();
  const lossy = new Map<Region, number>();
  const asked = new Map<Region, number>();
  const puts = new Map<Region, number>();

  const handler: http.RequestListener = (request, response) => {
    const region = regionOf(request);
    const count = (asked.get(region) ?? 0) + 1;
    asked.set(region, count);
    if (dead.has(region)) {
      request.socket.destroy();
      return;
    }
    const waiting = held.get(region);
    if (waiting?.which(request)) void waiting.until.then(respond);
    else respond();

    function respond(): void {
      const refused = throttled.get(region);
      // Spread evenly: with 0.3 it is the 4th, 7th, 10th, 14th …
      if (refused && Math.floor(count * refused) > Math.floor((count - 1) * refused)) {
        refuse(request, response);
        return;
      }
      const lost = lossy.get(region);
      if (lost && count % lost === 0) loseAnswer(request, response);
      if (request.method === "PUT") puts.set(region, (puts.get(region) ?? 0) + 1);
      simulator.handler(request, response);
    }
  };

  const authority = await createAuthority();
  const served = await serve(handler, { tls: authority });
  const opened: Cloud[] = [];
  const clients: EC2[] = [];
  const spec: ImageSpec = { ...AWS_SPEC, diskBytes: 24 * MiB, regions: REGIONS_22 };
  return {
    simulator,
    spec,
    open(more: Partial<AwsOptions> = {}): Cloud {
      const cloud = openAws({
        account: AWS_PUBLISHER.account,
        homeRegion: spec.homeRegion,
        credentials: AWS_PUBLISHER,
        endpoints: { ec2: served.url, ebs: served.url, sts: served.url, ssm: served.url, sns: served.url },
        ca: authority.ca,
        pace: HURRIED,
        inFlight: 8,
        ...changes,
        ...more,
      });
      opened.push(cloud);
      return cloud;
    },
    /** The vendor's own client, as somebody else in the account would use it. */
    ec2(region: Region): EC2 {
      const { accessKeyId, secretAccessKey } = AWS_PUBLISHER;
      const client = new EC2({
        ...{ region, endpoint: served.url, credentials: { accessKeyId, secretAccessKey }, maxAttempts: 1 },
        requestHandler: { httpsAgent: new https.Agent({ ca: authority.ca }) },
      });
      clients.push(client);
      return client;
    },
    /** Breaks every connection. */
    kill: (region: Region) => void dead.add(region),
    revive: (region: Region) => void dead.delete(region),
    /** Keeps such requests unanswered until they are released. */
    hold(region: Region, which: Which) {
      const { promise, resolve } = Promise.withResolvers<void>();
      held.set(region, { which, until: promise });
      return {
        release() {
          held.delete(region);
          resolve();
        },
      };
    },
    /** Refuses this share of all requests. */
    throttle: (region: Region, share: number) => void throttled.set(region, share),
    /** Carries every n-th request out, and loses the answer. */
    loseEvery: (region: Region, n: number) => void lossy.set(region, n),
    /** Blocks put so far, by region; also those whose answer was lost. */
    puts: () => new Map(puts),
    async close() {
      for (const cloud of opened) await cloud.close();
      for (const client of clients) client.destroy();
      await served.close();
      simulator.close();
    },
  };
}

/** Journals by region that outlive what reads them, as the database's do. */
export function keptJournals(): JournalOf {
  const kept = new Map<Region, UploadJournal & AsyncDisposable>();
  return async (region) => {
    const journal = kept.get(region) ?? Object.assign(memoryJournal(), { [Symbol.asyncDispose]: async () => {} });
    kept.set(region, journal);
    return journal;
  };
}

function regionOf(request: http.IncomingMessage): Region {
  return /Credential=[^/]+\/\d{8}\/([^/]+)\//.exec(request.headers.authorization ?? "")?.[1] ?? "";
}

function refuse(request: http.IncomingMessage, response: http.ServerResponse): void {
  request.resume();
  if (request.url?.startsWith("/snapshots")) {
    response.writeHead(400, { "content-type": "application/json", "x-amzn-errortype": "RequestThrottledException" });
    response.end(JSON.stringify({ message: "Rate exceeded", Reason: "ACCOUNT_THROTTLED" }));
  } else {
    response.writeHead(503, { "content-type": "text/xml" });
    response.end(
      "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error></Errors><RequestID>r-1</RequestID></Response>",
    );
  }
}

function loseAnswer(request: http.IncomingMessage, response: http.ServerResponse): void {
  response.end = (() => {
    request.socket.destroy();
    return response;
  }) as typeof response.end;
}
