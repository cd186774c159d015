import { type Accounts, authorize, type Caller } from "./accounts.ts";
import { AwsFault, STS_NAMESPACE, unknownOperation } from "./fault.ts";
import type { Query } from "./query.ts";
import { element, type XmlValue } from "./xml.ts";

/** The Security Token Service: who am I, and be someone else for an hour. @throws AwsFault */
export function handleSts(accounts: Accounts, caller: Caller, query: Query, requestId: string): string {
  const action = query.required("Action");
  const result = resultOf(accounts, caller, query, action);
  const body = { [`${action}Result`]: result, ResponseMetadata: { RequestId: requestId } };
  return element(`${action}Response`, body, STS_NAMESPACE);
}

function resultOf(accounts: Accounts, caller: Caller, query: Query, action: string): XmlValue {
  // GetCallerIdentity needs no permission: even an explicit deny does not stop it.
  if (action === "GetCallerIdentity") return { Arn: caller.arn, UserId: caller.userId, Account: caller.account };
  if (action !== "AssumeRole") throw unknownOperation("sts", action);
  authorize(caller, "sts", action);
  const role = query.required("RoleArn");
  const session = query.required("RoleSessionName");
  const seconds = query.integer("DurationSeconds") ?? 3600;
  if (!/^[\w+=,.@-]{2,64}$/.test(session) || seconds < 900 || seconds > 43_200) {
    throw new AwsFault("ValidationError", "The session name or the duration of the request is invalid.");
  }
  const expiresAt = Date.now() + seconds * 1000;
  const key = accounts.assume(caller, role, session, query.text("ExternalId"), expiresAt);
  const assumed = accounts.find(key.accessKeyId);
  return {
    AssumedRoleUser: { AssumedRoleId: assumed?.userId, Arn: assumed?.arn },
    Credentials: {
      AccessKeyId: key.accessKeyId,
      SecretAccessKey: key.secretAccessKey,
      SessionToken: key.sessionToken,
      Expiration: new Date(expiresAt).toISOString(),
    },
  };
}
