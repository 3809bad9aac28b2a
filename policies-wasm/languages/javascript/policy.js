// Which licences an image may be under, as its annotation or label `org.opencontainers.image.licenses` says.

import { getImageConfig } from "portcullis:policy/facts@0.1.0";

const NAME = "org.opencontainers.image.licenses";

const SCHEMA = {
  type: "object",
  additionalProperties: false,
  required: ["allow"],
  properties: {
    allow: {
      description: "licences that are allowed, as SPDX names them: MIT, Apache-2.0",
      type: "array",
      minItems: 1,
      items: { type: "string", minLength: 1 },
    },
    missing: {
      description: "what becomes of an image that names no licence",
      enum: ["deny", "warn", "allow"],
      default: "deny",
    },
  },
};

let settings = null;

function faults(given) {
  const found = [];
  if (given === null || typeof given !== "object" || Array.isArray(given)) return ["settings are no object"];
  for (const key of Object.keys(given)) {
    if (!Object.hasOwn(SCHEMA.properties, key)) found.push(`${key}: unknown field`);
  }
  if (!Array.isArray(given.allow) || given.allow.length === 0) {
    found.push("allow: name at least one licence");
  } else {
    given.allow.forEach((licence, number) => {
      if (typeof licence !== "string" || licence === "") found.push(`allow[${number}]: has to be a text`);
    });
  }
  if (given.missing !== undefined && !SCHEMA.properties.missing.enum.includes(given.missing)) {
    found.push("missing: one of deny, warn and allow");
  }
  return found;
}

function read(json) {
  try {
    const given = JSON.parse(json.trim() === "" ? "{}" : json);
    return { given, found: faults(given) };
  } catch (error) {
    return { given: null, found: [`settings are no JSON: ${error.message}`] };
  }
}

const abstain = () => ({ tag: "abstain" });
const deny = (message) => ({ tag: "deny", val: { message, code: undefined, detailJson: undefined } });
const warn = (message) => ({ tag: "allow", val: { warnings: [message], audit: [], cacheTtlS: undefined } });

// The licences of an SPDX expression such as `(MIT OR Apache-2.0) AND Zlib`. Every one of them has to be allowed: which
// side of an OR is meant, nobody says.
const licences = (expression) => expression.split(/[\s()]+/).filter((word) => word && !["AND", "OR", "WITH"].includes(word));

const valuesOf = (pairs) => pairs.filter(([name, value]) => name === NAME && value !== "").map(([, value]) => value);

export const guest = {
  describe() {
    return {
      name: "licences",
      version: "0.1.0",
      hooks: ["manifest-push"],
      wants: ["image-config"],
      metrics: [],
      settingsSchema: JSON.stringify(SCHEMA),
    };
  },

  // A result's error is thrown.
  validateSettings(json) {
    const { found } = read(json);
    if (found.length > 0) throw found;
  },

  configure(json) {
    const { given, found } = read(json);
    if (found.length > 0) throw found.join("; ");
    settings = given;
  },

  onManifestPush(_context, _target, manifest) {
    if (settings === null) return deny("licences was asked before it was configured");
    // An index refers to images that were judged when they came.
    if (manifest.children.length > 0) return abstain();
    const config = getImageConfig();
    const values = [...valuesOf(manifest.annotations), ...(config ? valuesOf(config.labels) : [])];
    if (values.length === 0) {
      const message = `no licence is named; set the annotation or label ${NAME}`;
      return settings.missing === "allow" ? abstain() : settings.missing === "warn" ? warn(message) : deny(message);
    }
    const refused = values.flatMap(licences).filter((licence) => !settings.allow.includes(licence));
    if (refused.length > 0) {
      return deny(`licence ${refused[0]} is not allowed, allowed are ${settings.allow.join(", ")}`);
    }
    return abstain();
  },

  onToken: abstain,
  onRequest: abstain,
  onPull: abstain,
  onResponse() {},
};
