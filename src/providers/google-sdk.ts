// What kz uses of Google's own library, in a file that is only loaded when a config names GCP.
export { ExternalAccountAuthorizedUserClient, ExternalAccountClient, Impersonated, JWT, UserRefreshClient } from 'google-auth-library';
