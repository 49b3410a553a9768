// What docs/deploy/ ships, against the shape of each kind as Kubernetes documents it (unknown keys are errors, as for its API server), and against
// itself: labels and selectors, volumes and mounts, ports, flags, the bundle, and the `restricted` pod security standard.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { loadBundle } from '../src/config/bundle.ts';
import { checkText } from '../src/config/load.ts';
import * as kinds from './fixtures/kubernetes-kinds.ts';
import type { Container, Deployment, Pod, PodSpec } from './fixtures/kubernetes-kinds.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = join(ROOT, 'docs/deploy/kubernetes');

interface Manifest {
  readonly file: string;
  readonly value: { readonly kind: string; readonly metadata: { readonly name: string; readonly namespace?: string } };
}

const manifests: readonly Manifest[] = readdirSync(FOLDER).flatMap((file) =>
  parseAllDocuments(readFileSync(join(FOLDER, file), 'utf8'), { version: '1.1', uniqueKeys: true, strict: true }).map((document) => {
    expect([...document.errors, ...document.warnings]).toEqual([]);
    return { file, value: document.toJS() as Manifest['value'] };
  }),
);

const inNamespace = (namespace: string): readonly Manifest['value'][] =>
  manifests.map(({ value }) => value).filter(({ metadata }) => metadata.namespace === namespace);

function only(kind: string, namespace = 'kz'): Manifest['value'] {
  const [found, second] = inNamespace(namespace).filter((each) => each.kind === kind);
  if (found === undefined || second !== undefined) throw new Error(`not exactly one ${kind} in ${namespace}`);
  return found;
}

const deployment: Deployment = kinds.deployment.parse(only('Deployment'));
const client: Pod = kinds.pod.parse(only('Pod', 'reports'));
const template = deployment.spec.template;
const [server = fail('no container')] = template.spec.containers;
const pods = [
  { name: 'server', namespace: 'kz', spec: template.spec },
  { name: 'client', namespace: 'reports', spec: client.spec },
];

function fail(problem: string): never {
  throw new Error(problem);
}

describe('a manifest', () => {
  it.each(manifests.map(({ file, value }) => [`${file} ${value.kind}`, value] as const))('%s has the shape of its kind', (_name, value) => {
    const schema = kinds.KINDS.get(value.kind) ?? fail(`no shape for ${value.kind}`);
    expect(schema.safeParse(value).error?.issues ?? []).toEqual([]);
  });

  it('of each kind that a deployment needs is there, once', () => {
    expect(inNamespace('kz').map(({ kind }) => kind)).toEqual([
      ...['ServiceAccount', 'ConfigMap', 'Deployment', 'Service', 'HorizontalPodAutoscaler', 'PodDisruptionBudget', 'NetworkPolicy'],
    ]);
    const names = manifests.map(({ value: { kind, metadata } }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
  });

  it('comes after the namespace that it is in, in the order of the files', () => {
    const made = new Set<string>();
    for (const { value } of manifests) {
      if (value.kind === 'Namespace') made.add(value.metadata.name);
      else expect(made).toContain(value.metadata.namespace);
    }
  });

  it('holds no secret', () => {
    expect(manifests.filter(({ value }) => value.kind === 'Secret')).toEqual([]);
    expect(manifests.map(({ value }) => JSON.stringify(value)).join('')).not.toMatch(/-----BEGIN|"(?:value|stringData)":/);
  });
});

describe('labels', () => {
  const { labels } = template.metadata;
  const { selector } = kinds.service.parse(only('Service')).spec;
  const selectors: [string, Readonly<Record<string, string>> | undefined][] = [
    ['the deployment', deployment.spec.selector.matchLabels],
    ['the service', selector],
    ['the disruption budget', kinds.podDisruptionBudget.parse(only('PodDisruptionBudget')).spec.selector.matchLabels],
    ['the network policy', kinds.networkPolicy.parse(only('NetworkPolicy')).spec.podSelector.matchLabels],
    ...(template.spec.topologySpreadConstraints ?? []).map(({ labelSelector }): [string, Readonly<Record<string, string>>] => [
      'the spread',
      labelSelector.matchLabels,
    ]),
  ];

  it.each(selectors)('of the pod are those that %s selects', (_who, wanted) => {
    expect(Object.keys(wanted ?? {})).not.toEqual([]);
    expect(labels).toMatchObject(wanted ?? {});
  });

  it('of the client’s namespace let it in', () => {
    const { ingress } = kinds.networkPolicy.parse(only('NetworkPolicy')).spec;
    const allowed = ingress.flatMap(({ from }) =>
      from.flatMap((peer) => ('namespaceSelector' in peer ? [peer.namespaceSelector.matchLabels] : [])),
    );
    const reports = kinds.namespace.parse(manifests.find(({ value }) => value.metadata.name === 'reports')?.value);
    expect(allowed.some((wanted) => Object.entries(wanted).every(([key, text]) => reports.metadata.labels?.[key] === text))).toBe(true);
  });
});

describe('names and ports', () => {
  it('of the service and the probes are those of the container', () => {
    const names = server.ports?.map(({ name }) => name);
    const { ports } = kinds.service.parse(only('Service')).spec;
    const probes = [server.livenessProbe, server.readinessProbe].map((probe) => probe?.httpGet);
    for (const port of [...ports.map(({ targetPort }) => targetPort), ...probes.map((probe) => probe?.port)]) expect(names).toContain(port);
    expect(probes.map((probe) => [probe?.path, probe?.scheme])).toEqual([
      ['/healthz', 'HTTPS'],
      ['/readyz', 'HTTPS'],
    ]);
    expect(template.metadata.annotations?.['prometheus.io/port']).toBe(String(server.ports?.[0]?.containerPort));
    const policy = kinds.networkPolicy.parse(only('NetworkPolicy'));
    expect(policy.spec.ingress.flatMap((rule) => rule.ports.map(({ port }) => port))).toEqual([server.ports?.[0]?.containerPort]);
  });

  it('of what scales and what is scaled agree', () => {
    const { scaleTargetRef, minReplicas, maxReplicas } = kinds.horizontalPodAutoscaler.parse(only('HorizontalPodAutoscaler')).spec;
    expect(scaleTargetRef).toEqual({ apiVersion: 'apps/v1', kind: 'Deployment', name: deployment.metadata.name });
    expect([deployment.spec.replicas, minReplicas]).toEqual([2, 2]);
    expect(maxReplicas).toBeGreaterThan(minReplicas);
    expect(server.resources.requests).toHaveProperty('cpu');
  });

  it('of the client’s config are those of the service', async () => {
    const [text = ''] = Object.values(kinds.configMap.parse(only('ConfigMap', 'reports')).data);
    await expect(checkText('keyzero.toml', text)).resolves.toBeUndefined();
    const { name, namespace } = only('Service').metadata;
    expect(text).toContain(`url = "https://${name}.${namespace ?? ''}.svc"`);
    for (const [, path = ''] of text.matchAll(/^(?:ca|jwt_file) = "(.*)"$/gm)) expect(isMounted(path, client.spec)).toBe(true);
  });
});

function mountsOf({ containers }: PodSpec): NonNullable<Container['volumeMounts']> {
  return containers.flatMap(({ volumeMounts }) => volumeMounts ?? []);
}

function isMounted(path: string, spec: PodSpec): boolean {
  return mountsOf(spec).some(({ mountPath }) => path.startsWith(`${mountPath}/`));
}

describe.each(pods)('the pod of the $name', ({ namespace, spec }) => {
  it('mounts every volume that it has, once, and no other', () => {
    expect(
      mountsOf(spec)
        .map(({ name }) => name)
        .sort(),
    ).toEqual(spec.volumes.map(({ name }) => name).sort());
    expect(new Set(mountsOf(spec).map(({ mountPath }) => mountPath)).size).toBe(spec.volumes.length);
    expect(
      mountsOf(spec)
        .filter((mount) => mount.readOnly !== true)
        .map(({ mountPath }) => mountPath),
    ).toEqual(spec.volumes.some((volume) => 'emptyDir' in volume) ? ['/tmp'] : []);
  });

  it('names what is in its namespace, or what the page says how to make', () => {
    const page = readFileSync(join(ROOT, 'docs/deploy.md'), 'utf8');
    const made = [...page.matchAll(/kubectl -n (\S+) create (?:secret \w+|configmap) (\S+)/g)].map(
      ([, where, name]) => `${where ?? ''}/${name ?? ''}`,
    );
    const here = inNamespace(namespace).map(({ metadata }) => `${namespace}/${metadata.name}`);
    const named = spec.volumes.flatMap((volume) => {
      if ('configMap' in volume) return [volume.configMap.name];
      if ('secret' in volume) return [volume.secret.secretName];
      return 'projected' in volume ? volume.projected.sources.flatMap((each) => ('configMap' in each ? [each.configMap.name] : [])) : [];
    });
    // Every namespace has the last one.
    const known = [...made, ...here, `${namespace}/kube-root-ca.crt`];
    for (const name of [...named, spec.serviceAccountName]) expect(known).toContain(`${namespace}/${name}`);
  });

  it('is of the restricted profile, and writes nothing', () => {
    expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    expect(spec.securityContext.runAsUser).toBeGreaterThan(0);
    for (const { securityContext, resources } of spec.containers) {
      expect(securityContext).toEqual({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
      expect(resources.limits).toHaveProperty('memory');
    }
    expect(kinds.namespace.parse(manifests.find(({ value }) => value.metadata.name === namespace)?.value).metadata.labels).toHaveProperty(
      ['pod-security.kubernetes.io/enforce'],
      'restricted',
    );
  });

  it('has no token but those that are mounted, each short, and none that everybody can read', () => {
    expect(spec.automountServiceAccountToken).toBe(false);
    const tokens = spec.volumes.flatMap((volume) =>
      'projected' in volume
        ? volume.projected.sources.flatMap((each) => ('serviceAccountToken' in each ? [each.serviceAccountToken] : []))
        : [],
    );
    expect(tokens.length).toBeGreaterThan(0);
    for (const { expirationSeconds } of tokens) expect(expirationSeconds).toBeLessThanOrEqual(3600);
    for (const volume of spec.volumes) {
      if ('secret' in volume) expect(volume.secret.defaultMode).toBe(0o440);
      if ('projected' in volume) expect(volume.projected.defaultMode).toBe(0o440);
    }
    expect(spec.securityContext.fsGroup).toBe(spec.securityContext.runAsGroup);
  });

  it('has images with a version', () => {
    for (const { image } of spec.containers) expect(image).toMatch(/^[\w.-]+(?:\/[\w.-]+)+:\d+\.\d+\.\d+$/);
  });
});

const flags = new Set(
  [...readFileSync(join(ROOT, 'src/cli/commands/server.ts'), 'utf8').matchAll(/'(?:-\w, )?(--[\w-]+)(?: <[^>]+>)?'/g)].map(
    ([, flag]) => flag,
  ),
);

/** Flags are those of kz, and the files that they name are mounted. */
function checkArguments(args: readonly string[], spec: PodSpec): void {
  expect(args.slice(0, 2)).toEqual(['server', 'start']);
  for (const flag of args.filter((each) => each.startsWith('--'))) expect(flags).toContain(flag);
  for (const path of args.filter((each) => each.startsWith('/'))) expect(isMounted(path, spec), path).toBe(true);
}

it('gives the server the time that it takes to end', () => {
  const [, preStop = ''] = server.lifecycle?.preStop.exec.command ?? [];
  // What runs has 5 seconds, backends 1.5, and a slow reader of the log 2.
  expect(template.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(Number(preStop) + 5 + 1.5 + 2);
  expect(Number(preStop)).toBeGreaterThan(0);
});

it('starts the server with flags that it has, and files that are mounted', () => {
  checkArguments(server.args ?? [], template.spec);
});

it('has a bundle that loads, with policies for the client, and files that are mounted', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kz-deploy-'));
  try {
    const { data } = kinds.configMap.parse(only('ConfigMap'));
    const file = join(folder, 'bundle.yaml');
    writeFileSync(file, data['bundle.yaml'] ?? '');
    const bundle = await loadBundle(file);
    expect(bundle.issuers.map(({ type, audience }) => [type, audience])).toEqual([['kubernetes', ['kz']]]);
    expect([...bundle.backends.values()].map(({ provider }) => provider)).toEqual(['vault']);
    expect(bundle.resources.map(({ mode }) => mode)).toEqual(['direct', 'masked']);
    const [rule = ''] = bundle.policies.map((policy) => policy.rule);
    expect(rule).toContain(`org == '${client.metadata.namespace}' && service == '${client.spec.serviceAccountName}'`);
    const paths = [...(data['bundle.yaml'] ?? '').matchAll(/: (\/var\/\S+)$/gm)].map(([, path = '']) => path);
    expect(paths).toHaveLength(4);
    for (const path of paths) expect(isMounted(path, template.spec), path).toBe(true);
    const refs = Object.values(kinds.configMap.parse(only('ConfigMap', 'reports')).data)
      .join('')
      .matchAll(/ref = "([^"]+)"/g);
    for (const [, ref] of refs) expect(bundle.resources.filter(({ mode }) => mode === 'direct').map((each) => each.ref)).toContain(ref);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

describe('the Containerfile', () => {
  const text = readFileSync(join(ROOT, 'docs/deploy/Containerfile'), 'utf8');
  const instructions = text.split('\n').filter((line) => /^[A-Z]+ /.test(line));
  const of = (name: string): string[] =>
    instructions.filter((line) => line.startsWith(`${name} `)).map((line) => line.slice(name.length + 1));

  it('has two stages of the same image, with a version, and copies from the first', () => {
    expect(of('FROM')).toEqual(['node:22-slim AS install', 'node:22-slim']);
    expect(of('COPY')).toEqual(['--from=install /opt/kz /opt/kz']);
    expect(text).not.toMatch(/:latest|^ADD /m);
  });

  it('installs this version of the package, without scripts', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    expect(of('ARG')).toEqual([`KZ_VERSION=${version}`]);
    expect(of('RUN')[0]).toMatch(/^npm install .*--ignore-scripts .*"keyzero@\$\{KZ_VERSION\}"$/);
    expect(server.image).toBe(`registry.example.com/kz:${version}`);
  });

  it('ends as the user of the manifests, who is not root', () => {
    const { runAsUser, runAsGroup } = template.spec.securityContext;
    expect(of('USER')).toEqual([`${String(runAsUser)}:${String(runAsGroup)}`]);
    expect(instructions.findIndex((line) => line.startsWith('USER '))).toBeGreaterThan(
      instructions.findLastIndex((line) => line.startsWith('RUN ')),
    );
  });

  it('runs without a shell, and asks itself whether it lives', () => {
    const exec = (line: string | undefined): string[] => JSON.parse(line ?? '') as string[];
    expect(exec(of('ENTRYPOINT')[0])).toEqual(['kz']);
    checkArguments(exec(of('CMD')[0]), template.spec);
    const [, health] = /^--interval=\S+ --timeout=\S+ --start-period=\S+ CMD (.*)$/.exec(of('HEALTHCHECK')[0] ?? '') ?? [];
    const [node, dash, script = ''] = exec(health);
    expect([node, dash]).toEqual(['node', '-e']);
    expect(script).toContain("path: '/healthz'");
    expect(script).toContain(`port: ${String(server.ports?.[0]?.containerPort)}`);
    expect(of('EXPOSE')).toEqual([String(server.ports?.[0]?.containerPort)]);
  });

  it('has no secret in it', () => {
    expect(of('ENV')).toEqual(['NODE_ENV=production HOME=/tmp']);
  });
});
