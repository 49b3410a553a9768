// The AWS provider against moto's server.
import { describe } from 'vitest';
import { awsContract } from '../providers/aws-contract.ts';
import { motoProblem, startMoto } from './moto.ts';

const problem = motoProblem();

describe.skipIf(problem !== undefined)(`secrets and parameters on moto${problem === undefined ? '' : ` (skipped: ${problem})`}`, () => {
  awsContract(startMoto);
});
