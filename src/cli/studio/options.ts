/** Options of `tweedie studio`. */
import type { Options } from "../options.ts";

const SERVER = "Server";
const WHAT = "What it may use";

/** Everything that `tweedie studio` takes. */
export const STUDIO_OPTIONS = {
  port: {
    type: "string",
    alias: "p",
    group: SERVER,
    valueHint: "N",
    description: "port (default 7860; 0 takes any that is free)",
  },
  host: {
    type: "string",
    group: SERVER,
    valueHint: "ADDRESS",
    description: "address to listen at (default 127.0.0.1, this machine alone)",
  },
  token: {
    type: "string",
    group: SERVER,
    valueHint: "TEXT",
    description:
      "what browsers have to know (default: made once, kept in the folder, part of the printed address)",
  },
  "no-token": {
    type: "boolean",
    group: SERVER,
    description: "lets in everybody who is logged in on this machine; not with another --host",
  },
  name: {
    type: "string",
    multiple: true,
    group: SERVER,
    valueHint: "NAME",
    description: "name by which other machines call this one; may come several times",
  },
  data: {
    type: "string",
    path: "output",
    alias: "d",
    group: SERVER,
    valueHint: "DIR",
    description: "where jobs, uploads and results are kept (default out/studio)",
  },
  jobs: {
    type: "string",
    alias: "j",
    group: SERVER,
    valueHint: "N",
    description: "jobs at a time (default 1)",
  },
  model: {
    type: "string",
    path: "file-or-folder",
    alias: "m",
    multiple: true,
    group: WHAT,
    valueHint: "[NAME=]PATH",
    description: "model for making pictures from text; may come several times",
  },
  lora: {
    type: "string",
    path: "file",
    multiple: true,
    group: WHAT,
    valueHint: "[NAME=]FILE",
    description: "low-rank adapter for these models; may come several times",
  },
  control: {
    type: "string",
    path: "file-or-folder",
    multiple: true,
    group: WHAT,
    valueHint: "[NAME=]PATH",
    description: "ControlNet for these models; may come several times",
  },
  folder: {
    type: "string",
    path: "folder",
    multiple: true,
    group: WHAT,
    valueHint: "[NAME=]DIR",
    description: "folder with data for training and evaluating; may come several times",
  },
  json: { type: "boolean", group: SERVER, description: "prints its address as one line of JSON" },
} as const satisfies Options;
