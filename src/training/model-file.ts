/** Checkpoint files of a kind of model: one safetensors file; what the model is and where it comes from is in its metadata. */
import { describedBy, type FloatWidth, loadWeights, readWeights, writeWeights } from "./weights.ts";

/** How a kind of model is kept in its file. */
export interface ModelFileKind<M extends object> {
  /** Tells files of this kind from others: "tweedie.sdseg". */
  readonly format: string;
  /** Named in errors: "SDSeg". */
  readonly name: string;
  /** Metadata by key that say what to build, such as `config`. */
  describe(model: M): Readonly<Record<string, string>>;
  /** A model for the weights to be loaded into. What it throws is reported as a damaged file. */
  blank(field: (key: string) => string | undefined): M;
  /** Key of the notes in the metadata. Default "notes". */
  readonly notesKey?: string;
}

/** A model and what its file says of it. */
export interface LoadedModel<M, Notes> {
  readonly model: M;
  readonly notes: Notes;
}

/** Saving and loading of a kind of model. */
export interface ModelFile<M extends object, Notes> {
  /** Writes a model, floats in half precision by default, codes of integers as they are. The file is replaced whole. */
  save(path: string, model: M, notes: Notes, dtype?: FloatWidth): Promise<void>;
  /** Reads a model. @throws FormatError for other files, and listing names that are missing, unexpected or mis-shaped */
  load(path: string): Promise<LoadedModel<M, Notes>>;
  /** Whether metadata are those of such a file. */
  matches(metadata: ReadonlyMap<string, string>): boolean;
  /** For `study.model`: in full precision, so that a model that is read back is the one that was trained. */
  readonly cell: {
    /** Writes a model in full precision, without notes. */
    save(path: string, model: M): Promise<void>;
    /** Reads it back. */
    load(path: string): Promise<M>;
  };
}

/** Files of a kind of model. `Notes` is plain data: what it was trained on, by which command, what was measured. */
export function modelFile<M extends object, Notes extends object = Readonly<Record<string, string>>>(
  kind: ModelFileKind<M>,
): ModelFile<M, Notes> {
  const { format, describe, blank, notesKey = "notes" } = kind;
  const save: ModelFile<M, Notes>["save"] = (path, model, notes, dtype) =>
    writeWeights(path, model, { format, ...describe(model), [notesKey]: JSON.stringify(notes) }, dtype);
  const load = async (path: string): Promise<LoadedModel<M, Notes>> => {
    const { weights, metadata } = await readWeights(path);
    const { empty, notes } = describedBy(path, metadata, kind, (field) => ({
      empty: blank(field),
      notes: JSON.parse(field(notesKey) ?? "{}") as Notes,
    }));
    return { model: loadWeights(path, empty, weights), notes };
  };
  return {
    save,
    load,
    matches: (metadata) => metadata.get("format") === format,
    cell: {
      save: (path, model) => save(path, model, {} as Notes, "f32"),
      load: async (path) => (await load(path)).model,
    },
  };
}
