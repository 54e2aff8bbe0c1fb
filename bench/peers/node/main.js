// Serves plain cache-aside with Fastify, ioredis and @azure/data-tables: `PORT`, and `WORKERS` processes.

import cluster from "node:cluster";

import { createApp } from "./app.js";

const workers = Number(process.env.WORKERS ?? 1);

if (workers > 1 && cluster.isPrimary) {
  // A worker ends when the primary does. If a worker ends first, it could not start.
  cluster.on("exit", (_worker, code) => process.exit(code || 1));
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  const app = await createApp(process.env);
  await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
}
