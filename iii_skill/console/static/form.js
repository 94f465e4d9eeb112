// A form made of the schema of a function. Numbers and JSON stay the texts that were typed.
import { html } from "./lib.js";

const kinds = (schema) => [schema?.type ?? []].flat().filter((type) => typeof type === "string");
/** Workers say what they like in their schemas: what is no list of names, or no object, counts as absent. */
const requiredOf = (schema) => new Set(Array.isArray(schema.required) ? schema.required : []);

export function membersOf(schema) {
  const members = schema?.properties;
  return members && typeof members === "object" && !Array.isArray(members) ? members : {};
}

/** How a member is asked for: choice, flag, text, number or json. */
function kindOf(schema) {
  if (Array.isArray(schema?.enum)) return "choice";
  const types = kinds(schema).filter((type) => type !== "null");
  if (types.length !== 1) return "json";
  return { boolean: "flag", string: "text", number: "number", integer: "number" }[types[0]] ?? "json";
}

/** The payload as a text: members that are empty and not asked for are left out. */
export function textOf(schema, fields) {
  const required = requiredOf(schema);
  const members = [];
  for (const [name, member] of Object.entries(membersOf(schema))) {
    const typed = fields[name] ?? "";
    const kind = kindOf(member);
    if (typed === "" && !required.has(name)) continue;
    const value = kind === "text" ? JSON.stringify(typed) : typed.trim() || (kind === "json" ? "null" : "");
    members.push(`  ${JSON.stringify(name)}: ${value}`);
  }
  return members.length ? `{\n${members.join(",\n")}\n}` : "{}";
}

export function Form({ schema, fields, onFields }) {
  const required = requiredOf(schema);
  const members = membersOf(schema);
  const names = Object.keys(members);
  names.sort((one, other) => Number(required.has(other)) - Number(required.has(one)));
  const set = (name) => (event) => onFields({ ...fields, [name]: event.target.value });
  return html`<div class="form">
    ${names.map((name) => {
      const member = members[name];
      const kind = kindOf(member);
      const shared = { value: fields[name] ?? "", onInput: set(name), required: required.has(name) };
      return html`<label class="field" key=${name}>
        <span>${name} <i>${required.has(name) ? "" : "optional "}${kind === "choice" ? "" : kinds(member).filter((type) => type !== "null").join(" or ") || "any JSON"}</i></span>
        ${kind === "choice" || kind === "flag"
          ? html`<select ...${shared}>
              <option value="" />
              ${(kind === "flag" ? [true, false] : member.enum).map((one) => html`<option value=${JSON.stringify(one)}>${typeof one === "string" ? one : JSON.stringify(one)}</option>`)}
            </select>`
          : kind === "json"
            ? html`<textarea class="small" rows="2" spellcheck=${false} ...${shared} placeholder=${kinds(member).includes("array") ? "[]" : kinds(member).includes("object") ? "{}" : "JSON, as \"text\" or 1"} />`
            : html`<input type="text" spellcheck=${false} autocomplete="off" inputmode=${kind === "number" ? "decimal" : undefined} ...${shared} />`}
        ${member?.description && html`<small>${String(member.description)}</small>`}
      </label>`;
    })}
  </div>`;
}
