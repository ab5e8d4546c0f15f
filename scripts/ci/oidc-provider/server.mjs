// A real OpenID provider for the tests of sign-in with other providers: certified code, accounts by the asking.
//
// Whoever the browser asks to be (login_hint) is signed in without a page in between; consent is given. Everything else is
// the provider's: PKCE, redirects, codes, signatures, userinfo. Prints its port and ends with its standard input.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const callback = (id) => `http://localhost:3000/api/v1/auth/oidc/${id}/callback`;
const client = (id, callbackId, extra) => ({
  client_id: id,
  redirect_uris: [callback(callbackId)],
  grant_types: ['authorization_code'],
  response_types: ['code'],
  ...extra,
});

// verified:ada@example.com, unverified:ada@example.com, nobody:7
function claimsOf(sub) {
  const [kind, email] = sub.split(/:(.*)/s);
  const named = { sub, given_name: 'Ada', family_name: 'Lovelace' };
  if (kind === 'nobody') return named;
  return { ...named, email, email_verified: kind === 'verified' };
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [
      client('dreamscape', 'real', { client_secret: 'a secret: with signs & such', token_endpoint_auth_method: 'client_secret_basic' }),
      client('in-the-body', 'body', { client_secret: 'another secret of ours', token_endpoint_auth_method: 'client_secret_post' }),
      client('public', 'public', { token_endpoint_auth_method: 'none' }),
      client('somebody-else', 'real', { client_secret: 'not ours at all', token_endpoint_auth_method: 'client_secret_basic' }),
    ],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['given_name', 'family_name'] },
    cookies: { keys: ['tests only'] },
    features: { devInteractions: { enabled: false } },
    pkce: { required: () => true, methods: ['S256'] },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => claimsOf(sub) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    async loadExistingGrant(ctx) {
      const { client: { clientId }, session: { accountId }, provider: { Grant } } = ctx.oidc;
      const grant = new Grant({ clientId, accountId });
      grant.addOIDCScope('openid email profile');
      await grant.save();
      return grant;
    },
  });
  const answer = provider.callback();
  server.on('request', async (request, response) => {
    if (!request.url.startsWith('/interaction/')) return answer(request, response);
    try {
      const { params } = await provider.interactionDetails(request, response);
      const result = params.login_hint === 'deny'
        ? { error: 'access_denied', error_description: 'a text that nobody of ours should repeat' }
        : { login: { accountId: params.login_hint } };
      await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  console.log(port);
});
process.stdin.on('end', () => process.exit(0)).resume();
