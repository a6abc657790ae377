// Keeps the page and the captioner, so that the page works offline after the first visit.
// The build puts in a version that changes with every file, the page's files, and the large ones, named by their content.

const VERSION = '', PAGE = [], LARGE = [];

self.addEventListener('install', event => event.waitUntil(install()));
self.addEventListener('activate', event => event.waitUntil(activate()));
self.addEventListener('fetch', event => {
  const {method, url} = event.request;
  if (method === 'GET' && url.startsWith(self.registration.scope)) event.respondWith(answer(event));
});

async function install() {
  const cache = await caches.open(VERSION);
  await cache.addAll(PAGE.map(name => new Request(name, {cache: 'reload'})));
  for (const name of LARGE) {
    const kept = await caches.match(name);  // of an earlier version
    if (kept) await cache.put(name, kept);
  }
  await self.skipWaiting();
}

async function activate() {
  const others = (await caches.keys()).filter(name => name !== VERSION && name.startsWith('captioning-'));
  await Promise.all(others.map(name => caches.delete(name)));
  await self.clients.claim();
}

async function answer(event) {
  const {request} = event, cache = await caches.open(VERSION);
  const kept = await cache.match(request, {ignoreSearch: true});
  if (kept) return kept;
  const response = await fetch(request);
  const isLarge = LARGE.some(name => new URL(name, self.registration.scope).href === request.url);
  if (response.ok && isLarge) event.waitUntil(cache.put(request, response.clone()));
  return response;
}
