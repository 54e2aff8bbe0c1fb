// A user, and what a request may say about one.

import { ulid } from "ulid";

const ULID_PATTERN = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const MAX_NAME_LENGTH = 256;

const FIRST_NAMES = ["Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "Katherine", "Tony"];
const LAST_NAMES = [
  "Allen",
  "Hopper",
  "Johnson",
  "Lamport",
  "Liskov",
  "Lovelace",
  "Perlman",
  "Turing",
];

/** The request is invalid; the message says how. */
export class BadRequest extends Error {
  statusCode = 400;
}

export function userWith(id, name) {
  return { PartitionKey: "user", RowKey: id, Name: name };
}

export function newUser(name) {
  return userWith(ulid(), name);
}

export function randomName() {
  const pick = (names) => names[Math.floor(Math.random() * names.length)];
  return `${pick(FIRST_NAMES)} ${pick(LAST_NAMES)}`;
}

/** The id in upper case, or null if it is not a ULID. */
export function parseId(given) {
  const id = given.toUpperCase();
  return ULID_PATTERN.test(id) ? id : null;
}

export function parseJson(text) {
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new BadRequest("the body must be JSON");
  }
}

/** The name in a body, or null if there is none. */
export function parseName(body) {
  if (body === null || body === undefined) return null;
  if (typeof body !== "object" || Array.isArray(body)) {
    throw new BadRequest("the body must be a JSON object with a name");
  }
  const { name } = body;
  if (name === null || name === undefined) return null;
  const trimmed = typeof name === "string" ? name.trim() : "";
  if (trimmed === "" || trimmed.length > MAX_NAME_LENGTH) {
    throw new BadRequest("name must be 1 to 256 characters");
  }
  return trimmed;
}
