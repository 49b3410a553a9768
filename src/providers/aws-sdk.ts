// What kz uses of AWS's own libraries, in a file that is only loaded when a config names AWS: they take longer to load than kz to start.
export {
  BatchGetSecretValueCommand,
  CreateSecretCommand,
  DeleteSecretCommand,
  GetSecretValueCommand,
  ListSecretsCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from '@aws-sdk/client-secrets-manager';
export {
  DeleteParameterCommand,
  DescribeParametersCommand,
  GetParametersCommand,
  PutParameterCommand,
  SSMClient,
} from '@aws-sdk/client-ssm';
export { fromNodeProviderChain } from '@aws-sdk/credential-providers';
export { SignatureV4 } from '@smithy/signature-v4';
