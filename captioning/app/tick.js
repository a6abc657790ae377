// A list of entries with boxes: which are ticked, and deleting those.
const boxes = () => [...element.querySelectorAll('input[data-id]')];
element.addEventListener('click', event => {
  if (event.target.closest('[data-all]')) boxes().forEach(box => { box.checked = true; });
  const ticked = boxes().filter(box => box.checked).map(box => Number(box.dataset.id));
  if (event.target.closest('[data-delete]') && ticked.length
      && confirm(`Delete ${ticked.length} of the entries, and the pictures that only they need?`))
    trigger('delete', {value: ticked});
});
watch('value', () => boxes().forEach(box => { box.checked = false; }));
