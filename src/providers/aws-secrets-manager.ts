// Secrets Manager: current values twenty at a time, other versions one by one, all at once.
import { KzError } from '../core/errors.ts';
import { readAll, type Found, type Stored } from './aws-batches.ts';
import { awsError, faultOf, isThrottled } from './aws-errors.ts';
import { sourceOf, type SecretRef } from './aws-ref.ts';
import type { AwsSession } from './aws-session.ts';

/** BatchGetSecretValue takes no more. */
const BATCH = 20;

export class SecretsManager {
  readonly #session: AwsSession;
  /** Regions where lists are refused: they need a permission of their own. */
  readonly #oneByOne = new Set<string | undefined>();

  constructor(session: AwsSession) {
    this.#session = session;
  }

  read(refs: readonly SecretRef[], signal: AbortSignal): Promise<Found> {
    return readAll(refs, {
      batchSize: BATCH,
      isForBatch: ({ stage, versionId, region }) => stage === undefined && versionId === undefined && !this.#oneByOne.has(region),
      askMany: (list) => this.#askMany(list, signal),
      askOne: (ref) => this.#askOne(ref, signal),
    });
  }

  /** Makes the secret when there is none of that name. */
  async write(ref: SecretRef, text: string, signal: AbortSignal): Promise<void> {
    // Sent again after a broken connection, the same token makes no second version.
    const value = { SecretString: text, ClientRequestToken: crypto.randomUUID() };
    const put = { action: 'secretsmanager:PutSecretValue', what: ref.label, region: ref.region };
    try {
      await this.#session.secrets(
        put,
        (client, sdk, options) => client.send(new sdk.PutSecretValueCommand({ SecretId: ref.id, ...value }), options),
        signal,
      );
    } catch (error) {
      if (!isNotFound(error) || ref.region !== undefined) throw error;
      await this.#session.secrets(
        { ...put, action: 'secretsmanager:CreateSecret' },
        (client, sdk, options) => client.send(new sdk.CreateSecretCommand({ Name: ref.id, ...value }), options),
        signal,
      );
    }
  }

  /** With AWS's recovery window. False when it is not there, or on its way out already. */
  async remove(ref: SecretRef, signal: AbortSignal): Promise<boolean> {
    const request = { action: 'secretsmanager:DeleteSecret', what: ref.label, region: ref.region };
    try {
      await this.#session.secrets(
        request,
        (client, sdk, options) => client.send(new sdk.DeleteSecretCommand({ SecretId: ref.id }), options),
        signal,
      );
      return true;
    } catch (error) {
      if (error instanceof KzError && error.code === 'secret-missing') return false;
      throw error;
    }
  }

  async #askMany(refs: readonly SecretRef[], signal: AbortSignal): Promise<Found> {
    const region = refs[0]?.region;
    const request = { action: 'secretsmanager:BatchGetSecretValue', what: `${String(refs.length)} secrets`, region };
    const command = { SecretIdList: refs.map(({ id }) => id) };
    try {
      const answer = await this.#session.secrets(
        request,
        (client, sdk, options) => client.send(new sdk.BatchGetSecretValueCommand(command), options),
        signal,
      );
      const found: Found = new Map();
      for (const ref of refs) {
        const entry = answer.SecretValues?.find((candidate) => isOf(candidate, ref.id));
        const result = entry === undefined ? await this.#refusal(ref, answer.Errors) : stored(entry);
        if (result !== undefined) found.set(sourceOf(ref), result);
      }
      return found;
    } catch (error) {
      if (error instanceof KzError && error.code === 'provider-denied') this.#oneByOne.add(region);
      throw error;
    }
  }

  /** Undefined where there is none, or one that may pass when it is asked for alone: later, or in another account. */
  async #refusal(ref: SecretRef, items: readonly BatchError[] = []): Promise<KzError | undefined> {
    const item = items.find(({ SecretId }) => SecretId === ref.id);
    if (item === undefined || ref.region !== undefined) return undefined;
    const fault = { name: item.ErrorCode ?? 'an error without a name', message: item.Message ?? '' };
    if (isThrottled(fault) || fault.name.startsWith('Internal')) return undefined;
    const request = { action: 'secretsmanager:GetSecretValue', what: ref.label, region: ref.region };
    return awsError(fault, await this.#session.question('SECRETS_MANAGER', request));
  }

  async #askOne({ id, label, region, stage, versionId }: SecretRef, signal: AbortSignal): Promise<Stored> {
    const command = { SecretId: id, VersionStage: stage, VersionId: versionId };
    const answer = await this.#session.secrets(
      { action: 'secretsmanager:GetSecretValue', what: label, region },
      (client, sdk, options) => client.send(new sdk.GetSecretValueCommand(command), options),
      signal,
    );
    return stored(answer);
  }
}

interface Entry {
  readonly ARN?: string | undefined;
  readonly Name?: string | undefined;
  readonly VersionId?: string | undefined;
  readonly SecretString?: string | undefined;
  readonly SecretBinary?: Uint8Array | undefined;
}

interface BatchError {
  readonly SecretId?: string | undefined;
  readonly ErrorCode?: string | undefined;
  readonly Message?: string | undefined;
}

/** An ARN may be asked for without the six random characters at its end. */
function isOf({ ARN = '', Name }: Entry, id: string): boolean {
  return ARN === id || Name === id || (ARN.startsWith(`${id}-`) && ARN.length === id.length + 7);
}

function stored({ SecretString, SecretBinary, VersionId }: Entry): Stored {
  return { text: SecretString, bytes: SecretBinary, version: VersionId };
}

function isNotFound(error: unknown): boolean {
  return error instanceof KzError && faultOf(error.cause).name === 'ResourceNotFoundException';
}
