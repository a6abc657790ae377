// Masks, list entries and words with one data-segment are highlighted together; a place in the picture is sent.
const all = () => element.closest('#segmented').querySelectorAll('[data-segment]');
const light = place => {
  element.closest('#segmented').classList.toggle('has-lit', place !== null);
  for (const part of all()) {
    const isHere = place !== null && part.dataset.segment === String(place);
    part.classList.toggle('lit', isHere);
    if (part.matches('button')) part.setAttribute('aria-pressed', isHere);
  }
};
element.addEventListener('click', event => {
  const word = event.target.closest('button[data-light]'), entry = event.target.closest('button[data-event]');
  if (word) light(word.classList.contains('lit') ? null : word.dataset.light);
  if (entry) light(entry.dataset.value);
  const ground = event.target.closest('.ground');
  if (!ground) return;
  const box = ground.getBoundingClientRect();
  const share = (value, low, size) => Math.min(1, Math.max(0, (value - low) / size));
  trigger('select', {value: [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)]});
});
watch('value', () => {
  if (element.querySelector('.ground')) return element.scrollIntoView({block: 'nearest'});
  light(element.querySelector('[data-chosen]')?.dataset.chosen ?? null);
});
