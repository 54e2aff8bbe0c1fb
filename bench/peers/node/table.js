// Users in Azure Table Storage. The library keeps its connections alive.

import { TableClient } from "@azure/data-tables";

import { userWith } from "./user.js";

const NAME = "users";
const PARTITION = "user";

/** The library's spelling of a row. */
const rowOf = (user) => ({ partitionKey: PARTITION, rowKey: user.RowKey, Name: user.Name });

export class Table {
  constructor(connectionString) {
    const allowInsecureConnection = /DefaultEndpointsProtocol=http;/i.test(connectionString);
    this.client = TableClient.fromConnectionString(connectionString, NAME, {
      allowInsecureConnection,
    });
  }

  /** Creates the table if it is missing. */
  async create() {
    await this.client.createTable();
  }

  /** Adds a user. Returns its entity tag. */
  async insert(user) {
    return (await this.client.createEntity(rowOf(user))).etag;
  }

  /** The user and its entity tag, or null. */
  async get(id) {
    const row = await ifFound(this.client.getEntity(PARTITION, id));
    return row && { etag: row.etag, user: userWith(id, row.Name) };
  }

  /** Changes a user that exists. Returns its entity tag, or null. */
  async merge(user) {
    const merged = await ifFound(this.client.updateEntity(rowOf(user), "Merge"));
    return merged && merged.etag;
  }

  /** Returns whether there was such a user. */
  async delete(id) {
    return (await ifFound(this.client.deleteEntity(PARTITION, id))) !== null;
  }
}

/** What the service answers, or null if there is no such row. */
async function ifFound(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error.statusCode === 404) return null;
    throw error;
  }
}
