import { type Config, type Environment, resolveSecret } from "../config/index.ts";

/** The configured server with its password, or undefined for the embedded one. Never to be logged. */
export async function databaseUrl(config: Config, environment: Environment): Promise<string | undefined> {
  const { url, password } = config.database;
  if (url === undefined) return undefined;
  const plain = typeof url === "string" ? url : await resolveSecret(url, environment);
  if (password === undefined) return plain;
  const parsed = new URL(plain);
  parsed.password = encodeURIComponent(await resolveSecret(password, environment));
  return parsed.href;
}
