import { createHash } from "node:crypto";
import {
  BUNDLE_TYPE,
  bundleOf,
  containerStatement,
  IN_TOTO,
  imageStatement,
  parseEnvelope,
  type SigningKey,
  type Statement,
  signEnvelope,
  statementBytes,
} from "../../attestations/index.ts";
import { attested } from "../../bus/attested.ts";
import { enqueueMessages } from "../../bus/outbox.ts";
import { type Attestation, diskDigestsOf, recordAttestation } from "../../catalog/attestations.ts";
import { type CatalogedContainer, type CatalogedImage, containersById, listImages } from "../../catalog/catalog.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import type { Json } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface AttestInput {
  readonly versions: readonly string[];
  readonly containers: readonly string[];
}

/**
 * Signs what the catalog says now about image versions and container indexes; containers get it beside them in their
 * registry, as cosign looks for it. Without a key nothing happens.
 *
 * Safe to repeat: the same facts are the same statement, whose first signature is kept.
 */
export const attestReleaseStep = defineStep({
  name: "attest-release",
  retry: cloudRetry,
  timeoutMs: minutes(10),
  async run(ctx: Ctx, input: AttestInput): Promise<{ attested: number; unchanged: number }> {
    const key = await ctx.services.attester.signer();
    const done = { attested: 0, unchanged: 0 };
    if (key === undefined) return done;
    for (const id of input.versions) {
      const isNew = await attestVersion(ctx, key, id);
      if (isNew !== undefined) done[isNew ? "attested" : "unchanged"]++;
    }
    for (const container of await containersById(ctx.services.db, input.containers)) {
      done[(await attestContainer(ctx, key, container)) ? "attested" : "unchanged"]++;
    }
    ctx.log.info("attested", { ...done, key: key.keyId.slice(0, 16) });
    return done;
  },
});

/** More than one version has in all regions of all targets. */
const ROWS = 100_000;

/** @returns undefined if there is no image of it anywhere */
async function attestVersion(ctx: Ctx, key: SigningKey, versionId: string): Promise<boolean | undefined> {
  const rows = (await listImages(ctx.services.db, { versionId, limit: ROWS })).filter(isThere);
  const [first] = rows;
  if (first === undefined) return undefined;
  const { version } = first;
  const statement = await statementAbout(ctx, rows);
  const { isNew } = await keep(ctx, key, statement, {
    subject: { kind: "image", id: versionId },
    composeId: version.composeId,
    kind: version.kind,
    name: version.artifactPath,
    what: version.subvariant,
  });
  return isNew;
}

export function isThere(image: CatalogedImage): boolean {
  return image.id !== undefined && image.state !== "missing" && image.state !== "removed";
}

async function statementAbout(ctx: Ctx, rows: readonly CatalogedImage[]): Promise<Statement> {
  const { version } = rows[0]!;
  const disk = await diskDigestsOf(ctx.services.db, version.artifactSha256);
  return imageStatement({
    compose: composeOf(version),
    artifact: { path: version.artifactPath, sha256: version.artifactSha256 },
    ...(disk === undefined
      ? {}
      : { disk: { bytes: disk.diskBytes, blockBytes: disk.blockBytes, blocksSha256: disk.blocksSha256 } }),
    images: rows.map(({ cloud, target, region, id, name, key, definition, definitionVersion }) => ({
      ...{ cloud, target, region, id: id!, name, key, arch: version.arch },
      ...(definition === undefined ? {} : { definition }),
      ...(definitionVersion === undefined ? {} : { version: definitionVersion }),
    })),
  });
}

async function attestContainer(ctx: Ctx, key: SigningKey, container: CatalogedContainer): Promise<boolean> {
  const { registry, repository, digest, target, floating, architectures } = container;
  const tags = container.tags.filter((tag) => !floating.includes(tag));
  const statement = containerStatement(
    { compose: composeOf(container), registry, repository, tags, architectures: [...architectures] },
    digest,
  );
  const { attestation, isNew } = await keep(ctx, key, statement, {
    subject: { kind: "container", id: container.id },
    composeId: container.composeId,
    kind: container.kind,
    name: `${registry}/${repository}`,
    what: repository,
  });
  const { bytes, annotations } = bundleOf(
    parseEnvelope(attestation.envelope),
    attestation.keyId,
    attestation.predicateType,
  );
  const opened = await ctx.services.targets.registry(target, ctx);
  await ctx.lease.assert();
  await opened.attach(
    repository,
    digest as `sha256:${string}`,
    { artifactType: BUNDLE_TYPE, blobs: [{ bytes, mediaType: BUNDLE_TYPE }], annotations },
    ctx,
  );
  return isNew;
}

/** Catalog and message in one transaction. */
async function keep(
  ctx: Ctx,
  key: SigningKey,
  statement: Statement,
  about: Pick<Attestation, "subject"> & { composeId: string; kind: string; name: string; what: string },
): Promise<{ attestation: Attestation; isNew: boolean }> {
  const payload = statementBytes(statement);
  const { composeId, kind, name, what } = about;
  return ctx.services.db.transaction().execute(async (tx) => {
    const kept = await recordAttestation(
      tx,
      {
        subject: about.subject,
        statementSha256: createHash("sha256").update(payload).digest("hex"),
        predicateType: statement.predicateType,
        keyId: key.keyId,
        envelope: JSON.stringify(signEnvelope(IN_TOTO, payload, key)),
      },
      ctx.run.id,
    );
    const { id, subject, predicateType, statementSha256, keyId } = kept.attestation;
    const envelope = JSON.parse(kept.attestation.envelope) as { [key: string]: Json };
    const message = attested({
      ...{ id, subject: subject.kind, composeId, kind, name, what, predicateType, statementSha256, keyId, envelope },
      sentAt: ctx.services.now(),
    });
    await enqueueMessages(tx, [message], ctx.run.id);
    return kept;
  });
}

function composeOf(row: { composeId: string; system: string; kind: string; label?: string | undefined }) {
  const { composeId: id, system, kind, label } = row;
  return { id, system, kind, ...(label === undefined ? {} : { label }) };
}
