/** `images attest` and `images verify`: signed statements about what is out, and whether it is still so. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { bundleOf, parseEnvelope, readVerifyingKey, type VerifyingKey } from "../../attestations/index.ts";
import { type Attestation, attestationsOf } from "../../catalog/attestations.ts";
import { SlipwayError } from "../../lib/errors.ts";
import {
  type BytesWanted,
  type Choice,
  choose,
  readChosen,
  startAttest,
  type Verdict,
  verifyImages,
} from "../../workflows/index.ts";
import { follow } from "../follow.ts";
import { describeError, EXIT, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";

interface CommonOptions {
  readonly system?: string;
  readonly target?: string;
}

/** Signs what the catalog says of these now; what said the same before stays as it is. Exit 77: a part of it failed. */
export async function attest(
  session: Session,
  names: readonly string[],
  options: CommonOptions & { export?: string },
): Promise<number> {
  const services = await session.services();
  const choice = await choose(services.db, names, options);
  const engine = await session.engine("command");
  const started = await startAttest(engine, services, choice, names.join(", "));
  session.output.say(`attest: run ${started.runId}`);
  await follow(session, engine, started.runId);
  session.signal.throwIfAborted();
  const outcome = await started.handle.result();
  const statements = await statementsOf(session, choice);
  const files = options.export === undefined ? [] : await writeEnvelopes(options.export, statements);
  session.output.data(
    { ...outcome, attestations: statements.map(({ name, attestation }) => asData(name, attestation)) },
    (paint) => {
      const rows = statements.map(({ name, attestation }, position) => [
        name,
        attestation.createdAt.slice(0, 16),
        attestation.keyId.slice(0, 16),
        files[position] ?? `sha256:${attestation.statementSha256.slice(0, 16)}`,
      ]);
      const parts = [table(["name", "signed", "key", files.length > 0 ? "file" : "statement"], rows, paint)];
      for (const { error } of outcome.failed) {
        parts.push(describeError({ ...error, code: error.code as never }, paint).trimEnd());
      }
      parts.push(
        {
          done: paint.good(`${outcome.attested} new, ${outcome.unchanged} said so before.`),
          nothing: "All of it was attested before.",
          partial: paint.warn("Done in part. The same command again does the rest."),
          failed: paint.bad("Nothing was attested."),
        }[outcome.result],
      );
      return parts.join("\n");
    },
  );
  return { done: EXIT.done, nothing: EXIT.done, partial: EXIT.partial, failed: EXIT.failed }[outcome.result];
}

interface Named {
  readonly name: string;
  readonly attestation: Attestation;
}

/** The newest statement about each image version and container, once each. */
async function statementsOf(session: Session, choice: Choice): Promise<Named[]> {
  const { db } = await session.services();
  const { images, containers } = await readChosen(db, choice);
  const names = new Map(images.map(({ place, name }) => [place.versionId, name]));
  for (const { id, registry, repository } of containers) names.set(id, `${registry}/${repository}`);
  const attestations = await attestationsOf(db, [...names.keys()]);
  return [...names].flatMap(([id, name]) => {
    const attestation = attestations.get(id);
    return attestation === undefined ? [] : [{ name, attestation }];
  });
}

function asData(name: string, { keyId, predicateType, statementSha256, createdAt, envelope }: Attestation) {
  return { name, keyId, predicateType, statementSha256, createdAt, envelope: JSON.parse(envelope) as unknown };
}

/**
 * As other tools read them: the envelope alone, and in a bundle for cosign. Names come from the catalog: what would leave
 * the directory becomes a dash.
 */
async function writeEnvelopes(directory: string, statements: readonly Named[]): Promise<string[]> {
  await mkdir(directory, { recursive: true });
  return Promise.all(
    statements.map(async ({ name, attestation }) => {
      const { envelope, keyId, predicateType } = attestation;
      const file = join(directory, name.replace(/[^A-Za-z0-9._-]/g, "-"));
      await writeFile(`${file}.intoto.json`, `${envelope}\n`);
      await writeFile(`${file}.sigstore.json`, bundleOf(parseEnvelope(envelope), keyId, predicateType).bytes);
      return `${file}.intoto.json`;
    }),
  );
}

export interface VerifyOptions extends CommonOptions {
  readonly bytes?: BytesWanted;
  readonly key?: readonly string[];
}

/** Exit 0: all of it is right; 1: something is not; 77: something could not be asked. */
export async function verify(session: Session, names: readonly string[], options: VerifyOptions): Promise<number> {
  const services = await session.services();
  const choice = await choose(services.db, names, options);
  const keys = await Promise.all((options.key ?? []).map(readKey));
  const verdicts = await verifyImages(services, choice, { bytes: options.bytes, keys }, session.call);
  const count = (wanted: Verdict["verdict"]) => verdicts.filter(({ verdict }) => verdict === wanted).length;
  const summary = {
    right: count("right"),
    wrong: count("wrong"),
    unknown: count("unknown"),
    unreadable: count("unreadable"),
  };
  session.output.data({ ...summary, verdicts }, (paint) => describe(verdicts, summary, paint));
  if (summary.wrong > 0) return EXIT.failed;
  return summary.unknown > 0 ? EXIT.partial : EXIT.done;
}

async function readKey(file: string): Promise<VerifyingKey> {
  const pem = await readFile(file, "utf8").catch((error: unknown) => {
    throw new SlipwayError("not-found", "this public key cannot be read", { subject: file, cause: error });
  });
  return readVerifyingKey(pem, file);
}

function describe(
  verdicts: readonly Verdict[],
  summary: Readonly<Record<Verdict["verdict"], number>>,
  paint: Paint,
): string {
  const colours = { right: paint.good, wrong: paint.bad, unknown: paint.warn, unreadable: paint.dim };
  const rows = merged(verdicts).map(({ verdict, check, target, name, where, detail }) => [
    colours[verdict](verdict),
    check,
    target,
    name,
    where,
    detail,
  ]);
  const end =
    summary.wrong > 0
      ? paint.bad(`${summary.wrong} of ${verdicts.length} checks say it is not what was attested.`)
      : summary.unknown > 0
        ? paint.warn(`Nothing is wrong; ${summary.unknown} checks could not be made.`)
        : paint.good("It is what was attested.");
  const blind = summary.unreadable > 0 ? [`The bytes of ${summary.unreadable} images can be read by nobody.`] : [];
  return [table(["", "check", "target", "name", "where", ""], rows, paint), ...blind, end].join("\n");
}

/** Regions that say the same are one line. */
function merged(verdicts: readonly Verdict[]) {
  const groups = new Map<string, Verdict[]>();
  for (const one of verdicts) {
    // Ids differ by region; what is said of them need not.
    const said = one.verdict === "right" ? "" : (one.detail?.replaceAll(one.id ?? "\0", "it") ?? "");
    const key = JSON.stringify([
      one.target,
      one.name,
      one.check,
      one.verdict,
      said,
      one.region === undefined && one.detail,
    ]);
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()].map((group) => {
    const { verdict, check, target, name, detail = "" } = group[0]!;
    const regions = group.flatMap(({ region }) => (region === undefined ? [] : [region]));
    const where = regions.length > 3 ? `${regions[0]} and ${regions.length - 1} more` : regions.join(", ");
    const details = new Set(group.map((one) => one.detail));
    const one = details.size > 1 ? detail.replaceAll(group[0]!.id ?? "\0", "it") : detail;
    return { verdict, check, target, name, where, detail: details.size > 1 && verdict === "right" ? "" : one };
  });
}
