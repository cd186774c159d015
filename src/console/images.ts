/** The catalog, read only. */
import type { FastifyInstance } from "fastify";
import type { Kysely } from "kysely";
import { z } from "zod";
import { listContainers, listImages } from "../catalog/catalog.ts";
import type { Tables } from "../workflows/index.ts";
import { parsed } from "./runs.ts";

const query = z.object({
  search: z.string().max(200).optional(),
  compose: z.string().max(200).optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(500),
});

export function addImageRoutes(app: FastifyInstance, db: Kysely<Tables>): void {
  app.get("/api/images", async (request) => {
    const { search, compose, limit } = parsed(query, request.query);
    const filter = { search, composeId: compose, limit };
    return { images: await listImages(db, filter), containers: await listContainers(db, filter) };
  });
}
