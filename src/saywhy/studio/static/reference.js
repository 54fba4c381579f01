// The requests of the API, from its OpenAPI description.

import { at, call, make, say } from "/static/api.js";

const METHODS = ["get", "post", "put", "delete"];

async function show() {
  const description = await call("/api/openapi.json");
  const tags = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const method of METHODS.filter((name) => name in methods)) {
      const [tag] = methods[method].tags ?? ["others"];
      tags.set(tag, [...(tags.get(tag) ?? []), request(method, path, methods[method], description)]);
    }
  }
  const sections = [...tags].map(([tag, requests]) => make("section", {}, make("h2", {}, tag), ...requests));
  at("requests").replaceChildren(...sections);
}

function request(method, path, { description: about, parameters = [], requestBody }, description) {
  const body = fields(requestBody?.content?.["application/json"]?.schema, description);
  const rows = [
    ...parameters.map(({ name, in: place, required, schema, description: text }) => row(name, place, schema, required, text)),
    ...body.map(({ name, schema, required }) => row(name, "body", schema, required, schema.description)),
  ];
  const others = body.length ? [] : Object.keys(requestBody?.content ?? {});
  return make(
    "article",
    {},
    make("h3", {}, make("code", {}, `${method.toUpperCase()} ${path}`)),
    ...(about ? [make("p", {}, about)] : []),
    ...(others.length ? [make("p", { className: "note" }, `The body: ${others.join(", ")}.`)] : []),
    ...(rows.length ? [table(`Fields of ${method.toUpperCase()} ${path}`, rows)] : []),
  );
}

/** The fields of the body of a request, with their schemas. */
function fields(schema, description) {
  const found = schema?.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema;
  return Object.entries(found?.properties ?? {}).map(([name, own]) => ({
    name,
    schema: own,
    required: (found.required ?? []).includes(name),
  }));
}

function row(name, place, schema, required, about) {
  const other = required ? "required" : JSON.stringify(schema?.default) ?? "";
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, make("code", {}, name)),
    make("td", {}, place),
    make("td", {}, type(schema)),
    make("td", {}, other),
    make("td", {}, about ?? ""),
  );
}

function type(schema = {}) {
  if (schema.enum) return schema.enum.join(", ");
  if (schema.type === "array") return `list of ${type(schema.items)}s`;
  const bounds = [
    ["minimum", "from"],
    ["maximum", "to"],
    ["maxLength", "at most", "characters"],
  ].filter(([key]) => key in schema);
  return [schema.type ?? "any", ...bounds.map(([key, ...words]) => [words[0], schema[key], ...words.slice(1)].join(" "))].join(" ");
}

function table(name, rows) {
  const head = ["field", "in", "type", "default", "what"].map((text) => make("th", { scope: "col" }, text));
  const whole = make("table", { className: "fields-table" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  return make("div", { className: "wide-table", tabIndex: 0, role: "region", "aria-label": name }, whole);
}

show().catch(say);
