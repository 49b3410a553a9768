// `kz server init` in a folder that somebody else has filled.
import { existsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Story } from '../../stories/kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

it('no bundle is written through a link that leads elsewhere, unless told to', async () => {
  const elsewhere = join(story.home, 'elsewhere.yaml');
  symlinkSync(elsewhere, join(story.project, 'bundle.yaml'));
  expect(await story.kz(['server', 'init'])).toMatchObject({ code: 2, stdout: '' });
  expect(existsSync(elsewhere)).toBe(false);
});
