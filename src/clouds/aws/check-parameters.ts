/**
 * Whether parameters could be written. Parameter Store has no dry run: a request that AWS refuses for its contents tells
 * whether it would have been allowed. Nothing is written: overwriting and tagging exclude each other, and there is no
 * such image.
 */
import type { SSM } from "@aws-sdk/client-ssm";
import type { CallContext } from "../../lib/call.ts";
import type { Region } from "../../model.ts";
import type { Finding } from "../cloud.ts";
import type { Account } from "./account.ts";
import { denied, NO_IMAGE } from "./check.ts";
import type { SendOptions } from "./connection.ts";
import { OWNER, OWNER_VALUE } from "./tags.ts";

type Probe = readonly [operation: string, run: (ssm: SSM, send: SendOptions) => Promise<unknown>];

export async function checkParameters(
  account: Account,
  region: Region,
  names: readonly string[],
  call: CallContext,
): Promise<Finding[]> {
  const [Name] = names;
  if (Name === undefined) return [];
  const Tags = [{ Key: OWNER, Value: OWNER_VALUE }];
  const never = { Name, Value: NO_IMAGE, Type: "String", DataType: "aws:ec2:image", Overwrite: true, Tags } as const;
  // DeleteParameter is asked nothing: what it could be tried on might exist.
  const probes: readonly Probe[] = [
    ["GetParameter", (ssm, send) => ssm.getParameter({ Name }, send)],
    ["GetParameterHistory", (ssm, send) => ssm.getParameterHistory({ Name, MaxResults: 1 }, send)],
    [
      "ListTagsForResource",
      (ssm, send) => ssm.listTagsForResource({ ResourceType: "Parameter", ResourceId: Name }, send),
    ],
    ["PutParameter", (ssm, send) => ssm.putParameter(never, send)],
  ];
  const findings: Finding[] = [];
  for (const [operation, run] of probes) {
    try {
      await account.connection.ssm(region, operation, Name, call, run);
    } catch (error) {
      const finding = denied(error, `ssm:${operation}`, region);
      if (finding) findings.push(finding);
    }
  }
  return findings;
}
