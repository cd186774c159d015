/**
 * The pretended AWS: EC2, EBS direct, STS, Parameter Store, SNS and a little S3 behind one handler.
 *
 * Which service and region are meant is read from the credential scope of the signature, as a real front door could do
 * too; so one URL serves all of them. Start reading at `createAwsSimulator`; the stories are in `ec2/` and `ebs/`.
 */
import { createHash, randomUUID } from "node:crypto";
import type http from "node:http";
import { BodyTooLarge, readBody } from "../body.ts";
import type { Simulator } from "../simulator.ts";
import { Accounts, type AwsKey, type AwsRole, type Caller } from "./accounts.ts";
import { handleEbs } from "./ebs/index.ts";
import { handleEc2 } from "./ec2/index.ts";
import { AwsFault, type AwsService, answer, answerFault, JSON_1_1, unknownOperation } from "./fault.ts";
import { Query } from "./query.ts";
import { handleS3, unwrapChunks } from "./s3/index.ts";
import { readClaim, refusal, verify } from "./signature.ts";
import { handleSns } from "./sns.ts";
import { handleSsm } from "./ssm.ts";
import { type AwsBehaviour, AwsState, type RegionSettings, regionsOf } from "./state.ts";
import { handleSts } from "./sts.ts";

export type { AwsKey, AwsRole } from "./accounts.ts";
export { AWS_REGIONS, type AwsBehaviour, type AwsImage, type AwsSnapshot, type RegionSettings } from "./state.ts";

export interface AwsSimulatorOptions {
  /** Default: `AWS_PUBLISHER` and `AWS_OUTSIDER`. */
  readonly keys?: readonly AwsKey[];
  readonly roles?: readonly AwsRole[];
  readonly behaviour?: Partial<AwsBehaviour>;
  /** Settings every account starts with in every region. */
  readonly settings?: Partial<RegionSettings>;
  /** ARNs of topics that are there from the beginning. */
  readonly topics?: readonly string[];
  /** Buckets that are there from the beginning. */
  readonly buckets?: readonly { readonly name: string; readonly region: string; readonly account: string }[];
  /** Milliseconds since 1970 for everything the simulator dates; signatures are checked against the real time. */
  readonly clock?: () => number;
  /** Where block contents are spooled; absent: in memory. */
  readonly blobDir?: string | undefined;
}

export interface AwsSimulator extends Simulator {
  readonly name: "aws";
  /** What is there, for tests and the demo to look at and to arrange. */
  readonly state: AwsState;
  readonly accounts: Accounts;
  close(): void;
}

/** The account that releases, and one that has nothing to do with it: what it sees, everybody sees. */
export const AWS_PUBLISHER: AwsKey = {
  accessKeyId: "AKIAREHEARSALPUBLISH",
  secretAccessKey: "rehearsal-publisher-secret-access-key-01",
  account: "111122223333",
};
export const AWS_OUTSIDER: AwsKey = {
  accessKeyId: "AKIAREHEARSALOUTSIDE",
  secretAccessKey: "rehearsal-outsider-secret-access-key-001",
  account: "444455556666",
  user: "outsider",
};

export function createAwsSimulator(options: AwsSimulatorOptions = {}): AwsSimulator {
  const accounts = new Accounts(options.keys ?? [AWS_PUBLISHER, AWS_OUTSIDER], options.roles ?? []);
  const state = new AwsState({
    clock: options.clock ?? Date.now,
    behaviour: options.behaviour ?? {},
    settings: options.settings ?? {},
    blobDir: options.blobDir,
  });
  const furnish = () => {
    for (const { name, region, account } of options.buckets ?? []) state.objects.create(name, region, account);
    for (const arn of options.topics ?? []) {
      const [, , , region = "", account = ""] = arn.split(":");
      state.topics.set(arn, { arn, account, region, messages: [] });
    }
  };
  furnish();

  async function respond(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const requestId = randomUUID();
    let service: AwsService | undefined;
    try {
      const claim = readClaim(request);
      if (claim === undefined) throw refusal("ec2", "missing");
      if (!isKnown(claim.service)) throw unknownOperation(claim.service, `${request.method} ${request.url}`);
      service = claim.service;
      const body = await readBody(request, LIMITS[service]);
      const bodySha256 = createHash("sha256").update(body).digest();
      const caller = verify(request, claim, () => bodySha256.toString("hex"), accounts);
      state.settle();
      checkRegion(state, caller, service);
      const url = new URL(request.url ?? "/", "http://localhost");
      if (service === "ebs") {
        await handleEbs(
          {
            state,
            caller,
            method: request.method ?? "",
            path: url.pathname,
            query: url.searchParams,
            headers: request.headers,
            body,
            bodySha256,
            requestId,
          },
          response,
        );
      } else if (service === "s3") {
        const {
          status,
          type,
          body: content,
          headers,
        } = handleS3({
          store: state.objects,
          caller,
          method: request.method ?? "",
          url,
          headers: request.headers,
          body: objectOf(request, body),
        });
        answer(response, status, type ?? "application/xml", content ?? "", {
          ...headers,
          "x-amz-request-id": requestId,
        });
      } else if (service === "ssm") {
        const json = handleSsm(state, caller, String(request.headers["x-amz-target"] ?? ""), body.toString("utf8"));
        answer(response, 200, JSON_1_1, json, { "x-amzn-requestid": requestId });
      } else {
        const query = Query.parse(body.length > 0 ? body.toString("utf8") : url.search.slice(1));
        const xml = {
          ec2: () => handleEc2(state, caller, query, requestId),
          sns: () => handleSns(state, caller, query, requestId),
          sts: () => handleSts(accounts, caller, query, requestId),
        }[service]();
        answer(response, 200, "text/xml;charset=UTF-8", xml, { "x-amzn-requestid": requestId });
      }
    } catch (error) {
      if (request.destroyed && !request.complete) return;
      answerFault(response, service, asFault(error), requestId);
    }
  }

  return {
    name: "aws",
    state,
    accounts,
    handler: (request, response) => void respond(request, response),
    reset() {
      state.clear();
      furnish();
    },
    close: () => state.blocks.close(),
  };
}

function objectOf(request: http.IncomingMessage, body: Buffer): Buffer {
  return String(request.headers["content-encoding"] ?? "").includes("aws-chunked") ? unwrapChunks(body) : body;
}

/** Largest bodies taken: a block, a form, an object. */
const LIMITS: Record<AwsService, number> = {
  ec2: 1024 * 1024,
  ebs: 1024 * 1024,
  sts: 64 * 1024,
  s3: 64 * 1024 * 1024,
  ssm: 64 * 1024,
  // Percent-encoded, 256 KiB of message take three times as much.
  sns: 1024 * 1024,
};

function isKnown(service: string): service is AwsService {
  return Object.hasOwn(LIMITS, service);
}

/** A region that the account did not opt in to does not know the account. */
function checkRegion(state: AwsState, caller: Caller, service: AwsService): void {
  if (service === "s3" || service === "sts") return;
  const known = regionsOf(caller.partition).includes(caller.region);
  if (!known || state.settings(caller.account, caller.region).optIn === "not-opted-in") {
    throw refusal(service, "unknown-key");
  }
}

function asFault(error: unknown): AwsFault {
  if (error instanceof AwsFault) return error;
  if (error instanceof BodyTooLarge) return new AwsFault("RequestEntityTooLarge", error.message, 413);
  if (error instanceof URIError) return new AwsFault("InvalidParameterValue", "The query string is malformed.");
  return new AwsFault(
    "InternalFailure",
    `The simulator failed: ${error instanceof Error ? error.message : error}`,
    500,
  );
}
