import { randomBytes } from "node:crypto";
import { AwsFault, type AwsService } from "./fault.ts";
import type { Partition } from "./partition.ts";

/** One access key of the pretended account, as a test or a demo gives it out. */
export interface AwsKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Twelve digits. */
  readonly account: string;
  /** Last part of the caller's ARN. Default `publisher`. */
  readonly user?: string;
  /** Default: aws. */
  readonly partition?: Partition;
  /** ARNs of the organization and the organizational units the account is in. */
  readonly memberOf?: readonly string[];
  /** Temporary credentials only: the token that has to come along, and when it ends (milliseconds since 1970). */
  readonly sessionToken?: string;
  readonly expiresAt?: number;
  /**
   * What this key may not do: `ec2:CopyImage`, `ec2:*`, `ebs:Put*`, and `ec2:CopyImage@eu-west-1` for one region.
   * Everything else is allowed.
   */
  readonly deny?: readonly string[];
}

/** A role that any key of `trusts` (default: of any account) may assume. */
export interface AwsRole {
  readonly arn: string;
  readonly trusts?: readonly string[];
  readonly externalId?: string;
  readonly deny?: readonly string[];
}

/** Who asks, after the signature was found right. */
export interface Caller {
  readonly account: string;
  readonly arn: string;
  readonly userId: string;
  readonly region: string;
  readonly deny: readonly string[];
  readonly memberOf: readonly string[];
  readonly partition: Partition;
}

/** The keys and roles of all accounts, and what they are refused. */
export class Accounts {
  readonly #keys = new Map<string, AwsKey & { arn: string; userId: string }>();
  readonly #roles = new Map<string, AwsRole>();

  constructor(keys: readonly AwsKey[], roles: readonly AwsRole[]) {
    for (const key of keys) this.add(key);
    for (const role of roles) this.#roles.set(role.arn, role);
  }

  /** Adds a key, or replaces one: how a test withdraws a permission while a client is at work. */
  add(key: AwsKey): void {
    const user = key.user ?? "publisher";
    const arn = `arn:${key.partition ?? "aws"}:iam::${key.account}:user/${user}`;
    this.#keys.set(key.accessKeyId, { ...key, arn, userId: `AIDA${user.toUpperCase()}` });
  }

  find(accessKeyId: string): (AwsKey & { readonly arn: string; readonly userId: string }) | undefined {
    return this.#keys.get(accessKeyId);
  }

  /** Temporary credentials for a role, as AssumeRole hands them out. */
  assume(caller: Caller, roleArn: string, session: string, externalId: string | undefined, expiresAt: number): AwsKey {
    const role = this.#roles.get(roleArn);
    const trusted = role !== undefined && (role.trusts === undefined || role.trusts.includes(caller.account));
    if (!trusted || (role.externalId !== undefined && role.externalId !== externalId)) {
      throw new AwsFault(
        "AccessDenied",
        `User: ${caller.arn} is not authorized to perform: sts:AssumeRole on resource: ${roleArn}`,
        403,
      );
    }
    const account = /^arn:aws[a-z-]*:iam::(\d{12}):role\//.exec(roleArn)?.[1] ?? caller.account;
    const key = {
      accessKeyId: `ASIA${randomBytes(8).toString("hex").toUpperCase()}`,
      secretAccessKey: randomBytes(30).toString("base64"),
      sessionToken: randomBytes(60).toString("base64"),
      account,
      partition: caller.partition,
      expiresAt,
      deny: role.deny ?? [],
    };
    const name = roleArn.split("/").at(-1) ?? "role";
    const arn = `arn:${caller.partition}:sts::${account}:assumed-role/${name}/${session}`;
    this.#keys.set(key.accessKeyId, { ...key, arn, userId: `AROA${name.toUpperCase()}:${session}` });
    return key;
  }
}

/** Refuses what the caller's key is denied, in the words of the service. */
export function authorize(caller: Caller, service: AwsService, operation: string, resource = "*"): void {
  const action = `${service}:${operation}`;
  if (!caller.deny.some((pattern) => denies(pattern, action, caller.region))) return;
  const sentence = `User: ${caller.arn} is not authorized to perform: ${action} on resource: ${resource} with an explicit deny in an identity-based policy`;
  if (service === "ebs") throw new AwsFault("AccessDeniedException", sentence, 403, "UNAUTHORIZED_ACCOUNT");
  if (service === "ssm") throw new AwsFault("AccessDeniedException", sentence, 400);
  if (service === "sns") throw new AwsFault("AuthorizationError", sentence, 403);
  if (service !== "ec2") throw new AwsFault("AccessDenied", sentence, 403);
  const encoded = Buffer.from(JSON.stringify({ allowed: false, explicitDeny: true, action })).toString("base64url");
  throw new AwsFault(
    "UnauthorizedOperation",
    `You are not authorized to perform this operation. ${sentence}. Encoded authorization failure message: ${encoded}`,
    403,
  );
}

function denies(pattern: string, action: string, region: string): boolean {
  const [wanted = "", only] = pattern.split("@");
  if (only !== undefined && only !== region) return false;
  return wanted.endsWith("*") ? action.startsWith(wanted.slice(0, -1)) : wanted === action;
}
