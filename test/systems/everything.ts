/** A made-up system that takes every kind of input and tells every kind of result. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { readCameraPath } from "../../src/data/index.ts";
import { decodePicture, type Picture } from "../../src/io/index.ts";
import { comparison, components, frames, lineChart, maskOver, turntable } from "../../src/report/index.ts";
import { readChoices, readControls } from "../../src/systems/inputs.ts";
import {
  cameraPath,
  choices,
  controlMaps,
  count,
  givenFile,
  how,
  pictures,
  results,
  severalPictures,
  text,
  volume,
} from "../../src/systems/options.ts";
import { action, type System } from "../../src/systems/system.ts";

export const CONTROL_TYPES = ["edges", "depth"] as const;

const options = z.object({
  image: pictures("picture that is looked at"),
  others: severalPictures("pictures beside it"),
  scan: volume("volume that is counted"),
  prompt: text("what it is about"),
  notes: givenFile("any file"),
  votes: choices("which pictures are better"),
  controls: controlMaps(CONTROL_TYPES, "what leads it"),
  camera: cameraPath("way of the camera"),
  views: count(6, "pictures of the turn"),
  style: how(z.enum(["plain", "loud"]).default("plain"), "how it speaks"),
  out: results("out/everything"),
});

const flat = (value: number, channels = 3): Picture => ({
  width: 4,
  height: 4,
  channels,
  data: new Uint8Array(16 * channels).fill(value),
});

const SIZES = { image: "bytes of the picture", scan: "bytes of the volume", notes: "bytes of the file" };

export const everything: System = {
  name: "everything",
  title: "Everything: all inputs and results",
  about: "takes all kinds of inputs and tells all kinds of results",
  paper: { title: "On Everything", authors: "A. Tester", venue: "Tests", year: 2024 },
  claim: "There is a place for each.",
  headline: async () => "all",
  checkpoints: [],
  actions: {
    run: action({
      about: "takes all and tells all",
      options,
      async *run(given) {
        const { others, prompt, votes, controls, camera, views, style } = given;
        const picture = await decodePicture(await readFile(given.image), { name: given.image });
        const black = flat(0);
        yield { type: "progress", stage: "looking", done: 1, total: 2 };
        yield { type: "metrics", stage: "looking", step: 1, values: { loss: 0.5 } };
        yield { type: "metrics", stage: "looking", step: 2, values: { loss: 0.25 } };
        yield { type: "picture", name: "picture", picture };
        const half = { ...flat(0, 1), data: Uint8Array.from({ length: 16 }, (_, i) => (i < 8 ? 255 : 0)) };
        yield { type: "album", ...maskOver({ name: "mask", caption: "what was found" }, black, half) };
        yield {
          type: "figure",
          name: "grid",
          caption: "seeds by styles",
          pictures: [10, 20, 30, 40].map((v) => flat(v)),
          columns: ["left", "right"],
          rows: ["top", "bottom"],
        };
        yield { type: "album", ...comparison({ name: "restored", caption: "restored" }, black, flat(200)) };
        const parts = [
          { label: "ground", picture: flat(100), weight: 0.5 },
          { label: "thing", picture: flat(60), weight: 1 },
        ];
        yield { type: "album", ...components({ name: "parts", caption: "taken apart" }, parts) };
        const film = [0, 80, 160].map((v) => flat(v));
        yield { type: "album", ...frames({ name: "film", caption: "a film" }, film, 5) };
        const cameras = await readCameraPath(camera, { count: views, width: 4, height: 4 });
        const turn = cameras.map((_, i) => flat(Math.round((255 * i) / cameras.length)));
        yield { type: "album", ...turntable({ name: "scene", caption: "a scene" }, turn) };
        const svg = lineChart([{ name: "loss", x: [1, 2], y: [0.5, 0.25] }]);
        yield { type: "chart", name: "chart", caption: "a chart", svg };
        const led = readControls(controls, CONTROL_TYPES).map(({ type }) => type);
        const rows: (readonly [string, string | number])[] = [
          ["prompt", prompt],
          ["style", style],
          ["pictures beside it", others.length],
          ["controls", led.join(" ")],
          ["choices", (await readChoices(votes)).length],
          ["cameras", cameras.length],
        ];
        for (const [name, words] of Object.entries(SIZES) as ["image" | "scan" | "notes", string][])
          rows.push([words, (await readFile(given[name])).length]);
        yield { type: "table", title: "What was given", table: { columns: ["what", "value"], rows } };
        return { summary: "All was told.", metrics: { cameras: cameras.length } };
      },
    }),
  },
};
