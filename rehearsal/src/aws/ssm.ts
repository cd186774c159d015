/**
 * Parameter Store: names that stand for a value, with every value they had before.
 *
 * Spoken in AWS's JSON 1.1: the operation in a header, one JSON document each way. A parameter of the data type
 * `aws:ec2:image` is validated after PutParameter has answered, so that a success may still come to nothing.
 * @see https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
 * @see https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-ec2-aliases.html
 */
import { authorize, type Caller } from "./accounts.ts";
import { AwsFault, unknownOperation } from "./fault.ts";
import { partitionOf } from "./partition.ts";
import type { AwsState } from "./state.ts";
import { checkTags } from "./tags.ts";

export interface ParameterVersion {
  readonly version: number;
  readonly value: string;
  readonly dataType: string;
  readonly modifiedAt: number;
  readonly modifiedBy: string;
  readonly description: string | undefined;
}

export interface AwsParameter {
  readonly account: string;
  readonly region: string;
  readonly name: string;
  readonly type: string;
  /** Oldest first, never empty. */
  versions: ParameterVersion[];
  readonly tags: Map<string, string>;
}

/** AWS keeps so many versions; the oldest goes when another is made. */
const VERSIONS = 100;
/** Of the standard tier, per account and region; and what one of them may hold, in characters. */
const PARAMETERS = 10_000;
const VALUE_CHARACTERS = 4096;
/** The part of a name's 2048 characters that is the caller's own, its ARN's beginning included. */
const NAME_CHARACTERS = 1011;
const DEPTH = 15;

/** All parameters of all accounts. `awaited` holds those that AWS has not looked at yet. */
export class ParameterStore {
  readonly #parameters = new Map<string, AwsParameter>();
  #awaited: { readonly at: number; readonly look: () => void }[] = [];

  find(account: string, region: string, name: string): AwsParameter | undefined {
    return this.#parameters.get(`${account}/${region}${name}`);
  }

  all(): AwsParameter[] {
    return [...this.#parameters.values()];
  }

  put(parameter: AwsParameter): void {
    this.#parameters.set(`${parameter.account}/${parameter.region}${parameter.name}`, parameter);
  }

  remove({ account, region, name }: AwsParameter): void {
    this.#parameters.delete(`${account}/${region}${name}`);
  }

  await(at: number, look: () => void): void {
    this.#awaited.push({ at, look });
  }

  settle(now: number): void {
    const due = this.#awaited.filter(({ at }) => at <= now);
    this.#awaited = this.#awaited.filter(({ at }) => at > now);
    for (const { look } of due) look();
  }

  clear(): void {
    this.#parameters.clear();
    this.#awaited = [];
  }
}

interface SsmCall {
  readonly state: AwsState;
  readonly caller: Caller;
  readonly input: Readonly<Record<string, unknown>>;
  readonly now: number;
}

const OPERATIONS: Readonly<Record<string, (call: SsmCall) => object>> = {
  AddTagsToResource: addTags,
  DeleteParameter: deleteParameter,
  GetParameter: getParameter,
  GetParameterHistory: getHistory,
  GetParameters: getParameters,
  ListTagsForResource: listTags,
  PutParameter: putParameter,
};

/** The answer's document. @param target the header `x-amz-target`: `AmazonSSM.PutParameter` @throws AwsFault */
export function handleSsm(state: AwsState, caller: Caller, target: string, body: string): string {
  const [service, name = ""] = target.split(".", 2);
  const operation = service === "AmazonSSM" && Object.hasOwn(OPERATIONS, name) ? OPERATIONS[name] : undefined;
  if (operation === undefined) throw unknownOperation("ssm", name || target);
  state.parameters.settle(state.now());
  const input = parse(body);
  authorize(caller, "ssm", name);
  const answer = operation({ state, caller, input, now: state.now() });
  state.count("ssm", name, caller.region);
  return JSON.stringify(answer);
}

function parse(body: string): Record<string, unknown> {
  try {
    const input: unknown = JSON.parse(body || "{}");
    if (typeof input === "object" && input !== null && !Array.isArray(input)) return input as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new AwsFault("SerializationException", "The request is not a JSON object.");
}

function putParameter(call: SsmCall): object {
  const { state, caller, now } = call;
  const name = checkedName(text(call, "Name").trim(), caller);
  const value = text(call, "Value");
  if (value.length > VALUE_CHARACTERS) {
    throw invalid(
      `Standard tier parameters support a maximum parameter value of ${VALUE_CHARACTERS} characters. To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier.`,
    );
  }
  const overwrite = call.input.Overwrite === true;
  const tags = tagsIn(call);
  if (overwrite && tags.size > 0) {
    throw invalid(
      "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.",
    );
  }
  if (tags.size > 0) authorize(caller, "ssm", "AddTagsToResource");
  const there = state.parameters.find(caller.account, caller.region, name);
  if (there !== undefined && !overwrite) {
    throw new AwsFault(
      "ParameterAlreadyExists",
      "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
    );
  }
  const type = optional(call, "Type") ?? there?.type;
  if (type === undefined) throw invalid("A parameter type is required when you create a parameter.");
  if (!["String", "StringList", "SecureString"].includes(type)) {
    throw invalid(`Value '${type}' at 'type' failed to satisfy constraint: Member must satisfy enum value set.`);
  }
  if (there !== undefined && there.type !== type) {
    throw new AwsFault("HierarchyTypeMismatchException", "The type of a parameter cannot be changed.");
  }
  const ours = state.parameters.all().filter((one) => one.account === caller.account && one.region === caller.region);
  if (there === undefined && ours.length >= PARAMETERS) {
    throw new AwsFault("ParameterLimitExceeded", "You have exceeded the number of parameters for this account.");
  }
  const dataType = optional(call, "DataType") ?? there?.versions.at(-1)?.dataType ?? "text";
  if (!["text", "aws:ec2:image"].includes(dataType)) throw invalid(`The data type ${dataType} is not supported.`);

  const next = 1 + (there?.versions.at(-1)?.version ?? 0);
  const write = (): void => {
    const parameter = state.parameters.find(caller.account, caller.region, name) ?? {
      ...{ account: caller.account, region: caller.region, name, type, tags },
      versions: [],
    };
    const version = 1 + (parameter.versions.at(-1)?.version ?? 0);
    const made = { version, value, dataType, modifiedAt: now, modifiedBy: caller.arn };
    parameter.versions = [...parameter.versions, { ...made, description: optional(call, "Description") }].slice(
      -VERSIONS,
    );
    state.parameters.put(parameter);
  };
  if (dataType === "text") write();
  else {
    state.parameters.await(now + state.behaviour.parameterCheckMs, () => {
      if (isOffered(state, caller, value)) write();
    });
    state.parameters.settle(now);
  }
  return { Version: next, Tier: "Standard" };
}

/** Whether the caller finds an image of this id that is available: looked for with the caller's own permissions. */
function isOffered(state: AwsState, caller: Caller, id: string): boolean {
  try {
    authorize(caller, "ec2", "DescribeImages");
  } catch {
    return false;
  }
  const image = state.image(caller.region, id);
  if (image?.state !== "available" || image.visibleAt > state.now()) return false;
  return image.owner === caller.account || image.permissions.has(caller.account) || image.permissions.has("all");
}

function getParameter(call: SsmCall): object {
  const found = lookUp(call, text(call, "Name"));
  if (found === undefined) throw new AwsFault("ParameterNotFound", `Parameter ${text(call, "Name")} not found.`);
  return { Parameter: found };
}

function getParameters(call: SsmCall): object {
  const names = strings(call, "Names");
  if (names.length < 1 || names.length > 10) throw invalid("Member must have length less than or equal to 10");
  const found = names.map((name) => lookUp(call, name));
  return {
    Parameters: found.filter((one) => one !== undefined),
    InvalidParameters: names.filter((_, position) => found[position] === undefined),
  };
}

/** By name or ARN, with `:version` behind it if an earlier value is meant. */
function lookUp({ state, caller }: SsmCall, asked: string): object | undefined {
  const path = asked.replace(/^arn:[^:]+:ssm:[^:]+:\d+:parameter(?=\/)/, "");
  const [name = "", selector] = path.split(":", 2);
  const parameter = state.parameters.find(caller.account, caller.region, name);
  if (parameter === undefined) return undefined;
  const version =
    selector === undefined
      ? parameter.versions.at(-1)
      : parameter.versions.find((one) => String(one.version) === selector);
  if (version === undefined) {
    throw new AwsFault(
      "ParameterVersionNotFound",
      `Systems Manager could not find version ${selector} of ${name}. Verify the version and try again.`,
    );
  }
  return {
    Name: name,
    Type: parameter.type,
    Value: version.value,
    Version: version.version,
    ...(selector === undefined ? {} : { Selector: `:${selector}` }),
    LastModifiedDate: version.modifiedAt / 1000,
    ARN: `arn:${partitionOf(caller.region)}:ssm:${caller.region}:${caller.account}:parameter${name.startsWith("/") ? "" : "/"}${name}`,
    DataType: version.dataType,
  };
}

function getHistory(call: SsmCall): object {
  const { type, name, versions } = existing(call);
  const size = call.input.MaxResults ?? 50;
  if (typeof size !== "number" || size < 1 || size > 50) throw invalid("MaxResults has to be 1 to 50.");
  const token = optional(call, "NextToken");
  const from = token === undefined ? 0 : Number(token);
  if (!Number.isInteger(from)) throw new AwsFault("InvalidNextToken", "The specified token isn't valid.");
  const page = versions.slice(from, from + size);
  return {
    Parameters: page.map(({ version, value, dataType, modifiedAt, modifiedBy, description }) => ({
      ...{ Name: name, Type: type, Value: value, Version: version, DataType: dataType, Tier: "Standard" },
      ...{ LastModifiedDate: modifiedAt / 1000, LastModifiedUser: modifiedBy, Labels: [], Policies: [] },
      ...(description === undefined ? {} : { Description: description }),
    })),
    ...(from + size < versions.length ? { NextToken: String(from + size) } : {}),
  };
}

function deleteParameter(call: SsmCall): object {
  call.state.parameters.remove(existing(call));
  return {};
}

function existing(call: SsmCall): AwsParameter {
  const name = text(call, "Name");
  const found = call.state.parameters.find(call.caller.account, call.caller.region, name);
  if (found === undefined) throw new AwsFault("ParameterNotFound", `Parameter ${name} not found.`);
  return found;
}

function tagged(call: SsmCall): AwsParameter {
  const type = text(call, "ResourceType");
  if (type !== "Parameter")
    throw new AwsFault("InvalidResourceType", `The rehearsal has no resources of type ${type}.`);
  const found = call.state.parameters.find(call.caller.account, call.caller.region, text(call, "ResourceId"));
  if (found === undefined) throw new AwsFault("InvalidResourceId", "The resource ID isn't valid.");
  return found;
}

function listTags(call: SsmCall): object {
  return { TagList: [...tagged(call).tags].map(([Key, Value]) => ({ Key, Value })) };
}

function addTags(call: SsmCall): object {
  const { tags } = tagged(call);
  for (const [key, value] of tagsIn(call)) tags.set(key, value);
  return {};
}

/** @see https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html */
function checkedName(name: string, caller: Caller): string {
  if (/^\/aws(\/|$)/i.test(name)) {
    throw new AwsFault("AccessDeniedException", `No access to reserved parameter name: ${name}.`);
  }
  const hierarchical = name.includes("/");
  if (!/^[A-Za-z0-9_.\-/]+$/.test(name) || /^\/?(aws|ssm)/i.test(name) || name.endsWith("/") || name.includes("//")) {
    throw invalid(
      'Parameter name: can\'t be prefixed with "aws" or "ssm" (case-insensitive). If formed as a path, it can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 symbols .-_',
    );
  }
  if (hierarchical && !name.startsWith("/")) {
    throw invalid("Parameter name must be a fully qualified name.");
  }
  const arn = `arn:${partitionOf(caller.region)}:ssm:${caller.region}:${caller.account}:parameter/`;
  if (arn.length + name.length > NAME_CHARACTERS) throw invalid("The parameter name is too long.");
  if (name.split("/").length - 1 > DEPTH) {
    throw new AwsFault("HierarchyLevelLimitExceededException", `The hierarchy can have a maximum of ${DEPTH} levels.`);
  }
  return name;
}

function tagsIn({ input }: SsmCall): Map<string, string> {
  const list = Array.isArray(input.Tags) ? (input.Tags as { Key?: unknown; Value?: unknown }[]) : [];
  const tags = new Map(list.map(({ Key, Value }) => [String(Key ?? ""), String(Value ?? "")]));
  const wrong = checkTags(tags);
  if (wrong !== undefined) throw invalid(wrong.message);
  return tags;
}

function text(call: SsmCall, field: string): string {
  const value = optional(call, field);
  if (value === undefined || value === "") {
    throw invalid(
      `1 validation error detected: Value at '${field[0]?.toLowerCase()}${field.slice(1)}' failed to satisfy constraint: Member must not be null`,
    );
  }
  return value;
}

function optional({ input }: SsmCall, field: string): string | undefined {
  const value = input[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") throw new AwsFault("SerializationException", `${field} is not a string.`);
  return value;
}

function strings({ input }: SsmCall, field: string): string[] {
  const value = input[field];
  if (!Array.isArray(value) || !value.every((one) => typeof one === "string")) {
    throw new AwsFault("SerializationException", `${field} is not a list of strings.`);
  }
  return value;
}

function invalid(message: string): AwsFault {
  return new AwsFault("ValidationException", message);
}
