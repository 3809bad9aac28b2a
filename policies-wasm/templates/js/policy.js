// What {{name}} refuses, in one sentence.

// What the gateway looked up, where `wants` names it:
// import { getImageConfig, tagDigest } from "portcullis:policy/facts@0.1.0";

const SCHEMA = {
  type: "object",
  additionalProperties: false,
  required: ["max-layers"],
  properties: { "max-layers": { description: "most layers of an image", type: "integer", minimum: 1 } },
};

let settings = null;

const abstain = () => ({ tag: "abstain" });
// It reaches the user's terminal: say what was found, and what is allowed.
const deny = (message) => ({ tag: "deny", val: { message, code: undefined, detailJson: undefined } });

function read(json) {
  try {
    const given = JSON.parse(json.trim() === "" ? "{}" : json);
    const limit = given?.["max-layers"];
    const found = Number.isInteger(limit) && limit >= 1 ? [] : ["max-layers: has to be at least 1"];
    return { given, found };
  } catch (error) {
    return { given: null, found: [`settings are no JSON: ${error.message}`] };
  }
}

export const guest = {
  describe() {
    return {
      name: "{{name}}",
      version: "0.1.0",
      hooks: ["manifest-push"],
      wants: [],
      metrics: [],
      settingsSchema: JSON.stringify(SCHEMA),
    };
  },

  // A result's error is thrown: here a list of texts, in `configure` one text.
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
    if (settings === null) return deny("{{name}} was asked before it was configured");
    const [found, limit] = [manifest.layers.length, settings["max-layers"]];
    return found > limit ? deny(`image has ${found} layers, limit ${limit}`) : abstain();
  },

  // Never called, as `hooks` does not name them, but they have to be there.
  onToken: abstain,
  onRequest: abstain,
  onPull: abstain,
  onResponse() {},
};
