// The Parameter Store of Systems Manager: ten parameters at a time. Writes SecureStrings only.
import type { ParameterMetadata } from '@aws-sdk/client-ssm';
import { KzError } from '../core/errors.ts';
import { readAll, type Found } from './aws-batches.ts';
import { missing } from './aws-errors.ts';
import { sourceOf, type ParameterRef } from './aws-ref.ts';
import type { AwsSession } from './aws-session.ts';

/** GetParameters takes no more. */
const BATCH = 10;

export class ParameterStore {
  readonly #session: AwsSession;

  constructor(session: AwsSession) {
    this.#session = session;
  }

  read(refs: readonly ParameterRef[], signal: AbortSignal): Promise<Found> {
    return readAll(refs, {
      batchSize: BATCH,
      // Answers are told apart by name.
      isForBatch: ({ selector }) => selector === '',
      askMany: (list) => this.#ask(list, signal),
      askOne: async (ref) => {
        const answer = (await this.#ask([ref], signal)).get(sourceOf(ref));
        if (answer === undefined || answer instanceof KzError) throw answer ?? (await this.#missing(ref));
        return answer;
      },
    });
  }

  /** Keeps the KMS key and the tier of a parameter that is there. Throws `provider-read-only` for one that is no SecureString. */
  async write(ref: ParameterRef, text: string, signal: AbortSignal): Promise<void> {
    const { id, label, region } = ref;
    const { Type: type = 'SecureString', KeyId, Tier } = (await this.#describe(ref, signal)) ?? {};
    if (type !== 'SecureString') {
      const hint = `to make it one, remove it first: \`aws ssm delete-parameter --name ${id}\``;
      throw new KzError('provider-read-only', `${label} is a plain ${type}, and kz writes SecureStrings only`, { hint });
    }
    const command = { Name: id, Value: text, Type: type, Overwrite: true, KeyId, Tier };
    await this.#session.parameters(
      { action: 'ssm:PutParameter', what: label, region },
      (client, sdk, options) => client.send(new sdk.PutParameterCommand(command), options),
      signal,
    );
  }

  /** False when it is not there. */
  async remove({ id, label, region }: ParameterRef, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#session.parameters(
        { action: 'ssm:DeleteParameter', what: label, region },
        (client, sdk, options) => client.send(new sdk.DeleteParameterCommand({ Name: id }), options),
        signal,
      );
      return true;
    } catch (error) {
      if (error instanceof KzError && error.code === 'secret-missing') return false;
      throw error;
    }
  }

  /** Undefined when it is not there. */
  async #describe({ id, label, region }: ParameterRef, signal: AbortSignal): Promise<ParameterMetadata | undefined> {
    const ParameterFilters = [{ Key: 'Name', Option: 'Equals', Values: [id] }];
    let NextToken: string | undefined;
    do {
      const page: Page = await this.#session.parameters(
        { action: 'ssm:DescribeParameters', what: label, region },
        (client, sdk, options) => client.send(new sdk.DescribeParametersCommand({ ParameterFilters, NextToken }), options),
        signal,
      );
      const known = page.Parameters?.find(({ Name }) => Name === id);
      if (known !== undefined) return known;
      NextToken = page.NextToken;
    } while (NextToken !== undefined);
    return undefined;
  }

  async #ask(refs: readonly ParameterRef[], signal: AbortSignal): Promise<Found> {
    const [first] = refs;
    const what = refs.length === 1 && first !== undefined ? first.label : `${String(refs.length)} parameters`;
    const command = { Names: refs.map(({ id, selector }) => `${id}${selector}`), WithDecryption: true };
    const { Parameters: parameters = [], InvalidParameters: invalid = [] } = await this.#session.parameters(
      { action: 'ssm:GetParameters', what, region: first?.region },
      (client, sdk, options) => client.send(new sdk.GetParametersCommand(command), options),
      signal,
    );
    const found: Found = new Map();
    for (const ref of refs) {
      const entry = parameters.find(({ Name, ARN }) => refs.length === 1 || Name === ref.id || ARN === ref.id);
      if (entry !== undefined) found.set(sourceOf(ref), { text: entry.Value, version: entry.Version?.toString() });
      else if (invalid.includes(`${ref.id}${ref.selector}`)) found.set(sourceOf(ref), await this.#missing(ref));
    }
    return found;
  }

  async #missing(ref: ParameterRef): Promise<KzError> {
    const request = { action: 'ssm:GetParameters', what: ref.label, region: ref.region };
    return missing(await this.#session.question('SSM', request), undefined, ref.selector !== '');
  }
}

interface Page {
  readonly Parameters?: readonly ParameterMetadata[] | undefined;
  readonly NextToken?: string | undefined;
}
