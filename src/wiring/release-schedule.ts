/**
 * Which releases exist and when they end, from a service that knows: Bodhi's /releases/. What slipway.yaml says itself
 * wins. The last good answer is kept in the data directory, so that the service may be down.
 */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EnvHttpProxyAgent, request } from "undici";
import { z } from "zod";
import type { ReleaseState } from "../compose/index.ts";
import type { Config } from "../config/index.ts";
import type { CallContext } from "../lib/call.ts";
import { reportOf, SlipwayError } from "../lib/errors.ts";
import { MiB, seconds } from "../lib/units.ts";

const DEADLINE_MS = seconds(20);
/** A hundred releases have some 60 KiB. */
const MAX_BYTES = MiB;

/** @see https://bodhi.fedoraproject.org/docs/server_api/rest/releases.html */
const answerSchema = z.object({
  pages: z.int().min(0).optional(),
  releases: z
    .array(
      z.object({
        name: z.string().max(100),
        version: z.string().max(20),
        id_prefix: z.string().max(100),
        branch: z.string().max(100),
        state: z.string().max(40),
        eol: z.iso.date().nullable().optional(),
      }),
    )
    .max(1000),
});

type Schedule = Pick<ReleaseState, "stable" | "branched" | "rawhide" | "end_of_life">;

const keptSchema = z.object({
  url: z.string(),
  fetchedAt: z.number(),
  schedule: z.object({
    stable: z.array(z.int()),
    branched: z.array(z.int()),
    rawhide: z.int().optional(),
    end_of_life: z.record(z.string(), z.iso.date()),
  }),
});
type Kept = z.output<typeof keptSchema>;

/** Bodhi's words: current is out, pending and frozen are branched or, on the branch rawhide, Rawhide itself. */
export function scheduleOf(answer: unknown, url: string): Schedule {
  const parsed = answerSchema.safeParse(answer);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(url, `its answer is not a list of releases: ${issue!.path.join(".")}: ${issue!.message}`);
  }
  const { releases, pages = 1 } = parsed.data;
  if (pages > 1) throw invalid(url, `it has ${pages} pages; ask for all at once, with rows_per_page=100`);
  const ours = releases.filter(({ id_prefix, version }) => id_prefix === "FEDORA" && /^\d{1,4}$/.test(version));
  const numbers = (wanted: (release: (typeof ours)[number]) => boolean) =>
    [...new Set(ours.filter(wanted).map(({ version }) => Number(version)))].sort((a, b) => a - b);
  const coming = ({ state }: { state: string }) => state === "pending" || state === "frozen";
  const [rawhide] = numbers((release) => coming(release) && release.branch === "rawhide");
  return {
    stable: numbers(({ state }) => state === "current"),
    branched: numbers((release) => coming(release) && release.branch !== "rawhide"),
    ...(rawhide === undefined ? {} : { rawhide }),
    end_of_life: Object.fromEntries(ours.flatMap(({ version, eol }) => (eol ? [[version, eol]] : []))),
  };
}

/** What is configured wins, field by field and release by release. */
export function mergeSchedule(configured: ReleaseState, schedule: Schedule): ReleaseState {
  const rawhide = configured.rawhide ?? schedule.rawhide;
  return {
    ...configured,
    stable: configured.stable.length > 0 ? configured.stable : schedule.stable,
    branched: configured.branched.length > 0 ? configured.branched : schedule.branched,
    ...(rawhide === undefined ? {} : { rawhide }),
    end_of_life: { ...schedule.end_of_life, ...configured.end_of_life },
  };
}

export interface Releases {
  /** As known now. An answer that has grown old is asked for anew in the background. */
  current(): ReleaseState;
}

/**
 * @throws SlipwayError `unavailable` or `invalid` if there is no answer, none is kept, and the configuration does not say
 *   which releases are out: names and kinds would be wrong
 */
export async function openReleases(
  settings: Pick<Config, "releases" | "data_dir">,
  call: CallContext,
  now: () => number = Date.now,
): Promise<Releases> {
  const { schedule: source, ...configured } = settings.releases;
  if (source === undefined) return { current: () => configured };
  const file = join(settings.data_dir, "release-schedule.json");
  let kept = await readKept(file, source.url);
  let asking: Promise<void> | undefined;

  const isOld = () => kept === undefined || now() - kept.fetchedAt > source.cache;
  function refresh(): Promise<void> {
    asking ??= fetchSchedule(source!.url, call)
      .then(async (schedule) => {
        kept = { url: source!.url, fetchedAt: now(), schedule: schedule as Kept["schedule"] };
        await keep(file, kept);
      })
      .finally(() => {
        asking = undefined;
      });
    return asking;
  }

  if (isOld()) {
    try {
      await refresh();
    } catch (error) {
      call.signal.throwIfAborted();
      if (kept === undefined && configured.stable.length === 0) throw error;
      const since =
        kept === undefined ? "what is configured" : `what it said at ${new Date(kept.fetchedAt).toISOString()}`;
      call.log.warn(`the release schedule cannot be had; ${since} is used`, { error: reportOf(error) });
    }
  }
  return {
    current() {
      if (isOld() && asking === undefined) {
        refresh().catch((error: unknown) => {
          call.log.warn("the release schedule cannot be had; the old one is used", { error: reportOf(error) });
        });
      }
      return kept === undefined ? configured : mergeSchedule(configured, kept.schedule as Schedule);
    },
  };
}

async function fetchSchedule(url: string, call: CallContext): Promise<Schedule> {
  const dispatcher = new EnvHttpProxyAgent();
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  try {
    const signal = AbortSignal.any([call.signal, deadline]);
    const { statusCode, body } = await request(url, { dispatcher, signal, headers: { accept: "application/json" } });
    if (statusCode !== 200) throw unavailable(url, `it answers ${statusCode}`);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of body) {
      bytes += (chunk as Buffer).length;
      if (bytes > MAX_BYTES) throw invalid(url, `its answer is longer than ${MAX_BYTES} bytes`);
      chunks.push(chunk as Buffer);
    }
    return scheduleOf(parse(Buffer.concat(chunks).toString("utf8"), url), url);
  } catch (error) {
    call.signal.throwIfAborted();
    if (error instanceof SlipwayError) throw error;
    throw unavailable(url, deadline.aborted ? `no answer within ${DEADLINE_MS / 1000} s` : reportOf(error).message);
  } finally {
    await dispatcher.destroy();
  }
}

function parse(text: string, url: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid(url, "its answer is not JSON");
  }
}

/** A file that cannot be read, or that answers another address, is no answer. */
async function readKept(file: string, url: string): Promise<Kept | undefined> {
  try {
    const kept = keptSchema.parse(JSON.parse(await readFile(file, "utf8")));
    return kept.url === url ? kept : undefined;
  } catch {
    return undefined;
  }
}

async function keep(file: string, kept: Kept): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.${process.pid}`, JSON.stringify(kept));
  await rename(`${file}.${process.pid}`, file);
}

const unavailable = (url: string, why: string) => refusal("unavailable", url, why);
const invalid = (url: string, why: string) => refusal("invalid", url, why);

function refusal(code: "unavailable" | "invalid", url: string, why: string): SlipwayError {
  return new SlipwayError(code, `the release schedule cannot be had: ${why}`, {
    subject: url,
    next: "Correct releases.schedule, or set releases.stable, branched and end_of_life in slipway.yaml.",
  });
}
