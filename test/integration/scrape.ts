/** One sample of the text format of Prometheus. */
export interface Sample {
  readonly name: string;
  readonly labels: { readonly [label: string]: string };
  readonly value: number;
}

export interface Scrape {
  /** Family -> its `# TYPE`. */
  readonly types: ReadonlyMap<string, string>;
  readonly samples: readonly Sample[];
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|[+-]Inf|NaN)$/;

/**
 * Reads the text format, version 0.0.4, as a scraper does: every line must be a comment or a sample, and samples of a
 * family stand together behind its `# TYPE`.
 */
export function parseScrape(text: string): Scrape {
  const types = new Map<string, string>();
  const samples: Sample[] = [];
  let family = "";
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("# HELP ")) continue;
    const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
    if (type !== null) {
      family = type[1]!;
      if (types.has(family)) throw new Error(`${family} comes twice`);
      types.set(family, type[2]!);
      continue;
    }
    const match = SAMPLE.exec(line);
    if (match === null) throw new Error(`no line of the format: ${line}`);
    const [, name, labels = "", value] = match;
    const isOfFamily =
      types.get(family) === "histogram"
        ? [`${family}_bucket`, `${family}_sum`, `${family}_count`].includes(name!)
        : name === family;
    if (!isOfFamily) throw new Error(`${name} stands below ${family}`);
    samples.push({ name: name!, labels: parseLabels(labels), value: Number(value!.replace("Inf", "Infinity")) });
  }
  return { types, samples };
}

function parseLabels(text: string): { [label: string]: string } {
  const labels: { [label: string]: string } = {};
  let rest = text;
  while (rest !== "") {
    const match = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/.exec(rest);
    if (match === null) throw new Error(`no labels: ${text}`);
    labels[match[1]!] = match[2]!.replace(/\\(.)/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped));
    rest = rest.slice(match[0].length);
  }
  return labels;
}
