// `projects/p/secrets/s`, with a location, a version and a key of a JSON document if wanted; or `s` alone in the configured project.
import { KzError } from '../core/errors.ts';

export interface GcpRef {
  readonly text: string;
  readonly project: string;
  /** Of a regional secret. */
  readonly location: string | undefined;
  readonly secret: string;
  /** A number, an alias or `latest`. */
  readonly version: string;
  /** What the API calls it: `projects/p/secrets/s/versions/latest`. */
  readonly name: string;
  readonly key: string | undefined;
}

// Nothing in these can leave its part of the address: an ID, a number, or an ID in a domain (`example.com:app`).
const PROJECT = /^(?:[\w-]+(?:\.[\w-]+)*:)?[\w-]+$/;
const FULL =
  /^projects\/(?<project>[^/#]+)(?:\/locations\/(?<location>[a-z0-9-]+))?\/secrets\/(?<secret>[\w-]+)(?:\/versions\/(?<version>[\w-]+))?$/;
const SHORT = /^(?<secret>[\w-]+)(?:\/versions\/(?<version>[\w-]+))?$/;

/** Throws `ref-invalid`. */
export function parseGcpRef(text: string, defaultProject: string | undefined): GcpRef {
  const invalid = (problem: string, hint: string): KzError =>
    new KzError('ref-invalid', `gcp ref ${JSON.stringify(text)} ${problem}`, { hint });
  const [path, key] = splitKey(text);
  if (key === '') throw invalid('names no key behind the #', 'write it as `projects/p/secrets/s#key`');
  const found = (FULL.exec(path) ?? SHORT.exec(path))?.groups;
  if (found === undefined) {
    throw invalid('is not the name of a secret', 'write it as `projects/p/secrets/s` or `projects/p/secrets/s/versions/1`');
  }
  const { project = defaultProject, location, secret = '', version = 'latest' } = found;
  if (project === undefined) {
    throw invalid('names no project', 'write it as `projects/p/secrets/s`, or set `project` in [providers.gcp] or GOOGLE_CLOUD_PROJECT');
  }
  if (!PROJECT.test(project))
    throw invalid(`is in no project: ${JSON.stringify(project)} is not the ID of one`, 'run `gcloud projects list`');
  const place = location === undefined ? '' : `/locations/${location}`;
  return { text, project, location, secret, version, name: `projects/${project}${place}/secrets/${secret}/versions/${version}`, key };
}

function splitKey(text: string): [string, string | undefined] {
  const hash = text.indexOf('#');
  return hash === -1 ? [text, undefined] : [text.slice(0, hash), text.slice(hash + 1)];
}
