// Draws one dashboard, whose JSON and data are in window.BOARD, with Grafana's own panels.
const { createRoot } = require('react-dom/client');

// The packages' modules for import expect another default of older packages than esbuild gives them.
const {
  applyFieldOverrides,
  createTheme,
  dateTime,
  getDisplayValueAlignmentFactors,
  getFieldDisplayName,
  getFieldDisplayValues,
  standardTransformers,
  standardTransformersRegistry,
  ThemeContext,
  toDataFrame,
  transformDataFrame,
} = require('@grafana/data');
const { BigValue, GlobalStyles, PanelChrome, Table, TimeSeries, VizRepeater } = require('@grafana/ui');

const { dashboard, frames, range, cell, width, chosen } = window.BOARD;
const theme = createTheme({ colors: { mode: 'dark' } });
const timeRange = { from: dateTime(range.from), to: dateTime(range.to), raw: { from: 'now-6m', to: 'now' } };
const same = (text) => text;

// Some have two names.
const transformers = new Map(Object.values(standardTransformers).map((each) => [each.id, each]));
standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((each) => ({ ...each, transformation: () => Promise.resolve(each), editor: () => null }))
);

// The settings of a field: those of the panel, then those of its overrides, in order.
function configured(panel, data) {
  const { defaults, overrides } = panel.fieldConfig;
  for (const frame of data) {
    for (const field of frame.fields) {
      const name = getFieldDisplayName(field, frame, data);
      const config = { ...structuredClone(defaults), ...field.config };
      config.custom = { ...defaults.custom };
      for (const { matcher, properties } of overrides) {
        for (const { id, value } of matcher.options === name ? properties : []) {
          if (id.startsWith('custom.')) {
            config.custom[id.slice('custom.'.length)] = value;
          } else {
            config[id] = value;
          }
        }
      }
      field.config = config;
      field.state = null;
    }
  }
  const done = applyFieldOverrides({
    data,
    fieldConfig: { defaults: {}, overrides: [] },
    replaceVariables: same,
    theme,
    timeZone: 'utc',
  });
  for (const field of done.flatMap((frame) => frame.fields)) {
    const links = field.config.links ?? [];
    field.getLinks = () => links.map((link) => ({ href: '#', title: link.title, target: '_self', origin: field }));
  }
  return done;
}

function Nothing({ panel, width, height }) {
  const style = { width, height, display: 'flex', alignItems: 'center', justifyContent: 'center' };
  return <div style={{ ...style, color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
}

function Stat({ panel, data, width, height }) {
  const { reduceOptions, colorMode, graphMode, textMode, justifyMode } = panel.options;
  const values = () =>
    getFieldDisplayValues({
      fieldConfig: { defaults: panel.fieldConfig.defaults, overrides: [] },
      reduceOptions,
      replaceVariables: same,
      theme,
      data,
      sparkline: graphMode !== 'none',
      timeZone: 'utc',
    });
  const one = ({ value: { display, sparkline }, width, height, alignmentFactors }) => (
    <BigValue
      value={display}
      count={values().length}
      sparkline={sparkline}
      {...{ colorMode, graphMode, textMode, justifyMode, alignmentFactors, width, height, theme }}
      wideLayout={false}
    />
  );
  return (
    <VizRepeater
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={one}
      orientation="auto"
      autoGrid
      itemSpacing={3}
      {...{ width, height }}
      source={data}
      renderCounter={0}
    />
  );
}

function Graph({ panel, data, width, height }) {
  return (
    <TimeSeries
      frames={data}
      legend={panel.options.legend}
      timeZone="utc"
      options={panel.options}
      {...{ timeRange, width, height }}
    />
  );
}

function Rows({ panel, data, width, height }) {
  const { sortBy, cellHeight } = panel.options;
  return <Table data={data[0]} initialSortBy={sortBy} {...{ width, height, cellHeight, timeRange }} />;
}

const KINDS = { stat: Stat, timeseries: Graph, table: Rows };

function Panel({ panel, data }) {
  const { x, y, w, h } = panel.gridPos;
  const gap = 6;
  const unit = (width - 16 + gap) / 24;
  const place = {
    position: 'absolute',
    left: x * unit,
    top: y * cell,
    width: w * unit - gap,
    height: h * cell - gap,
  };
  if (panel.type === 'row') {
    return <div style={{ ...place, paddingTop: 4, fontSize: 15, fontWeight: 500 }}>⌄ {panel.title}</div>;
  }
  const Kind = data.length === 0 && panel.type !== 'stat' ? Nothing : KINDS[panel.type];
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={place.width} height={place.height}>
        {(width, height) => <Kind {...{ panel, data, width, height }} />}
      </PanelChrome>
    </div>
  );
}

function Variables() {
  const box = { border: `1px solid ${theme.colors.border.medium}`, padding: '2px 8px', marginRight: 16, borderRadius: 2 };
  return dashboard.templating.list.map((variable) => (
    <span key={variable.name}>
      <span style={{ color: theme.colors.text.secondary, marginRight: 6 }}>{variable.label}</span>
      <span style={box}>{chosen[variable.name] ?? (String(variable.current.text) || ' ')}</span>
    </span>
  ));
}

function Page({ ready }) {
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ padding: 8, background: theme.colors.background.canvas, color: theme.colors.text.primary, fontSize: 13 }}>
        <div style={{ height: 28, fontSize: 18, fontWeight: 500 }}>{dashboard.title}</div>
        <div style={{ height: 30 }}>
          <Variables />
        </div>
        <div style={{ position: 'relative' }}>
          {dashboard.panels.map((panel) => (
            <Panel key={panel.id} panel={panel} data={ready[panel.id]} />
          ))}
        </div>
      </div>
    </ThemeContext.Provider>
  );
}

async function transformed(panel) {
  const data = frames[panel.id].map((frame) => toDataFrame(frame));
  if (!data.length || !panel.transformations?.length) {
    return data;
  }
  return new Promise((resolve) => transformDataFrame(panel.transformations, data).subscribe(resolve));
}

const panels = dashboard.panels;
Promise.all(panels.map(transformed)).then((all) => {
  const ready = {};
  panels.forEach((panel, at) => {
    ready[panel.id] = panel.type === 'row' ? [] : configured(panel, all[at]);
  });
  createRoot(document.getElementById('page')).render(<Page ready={ready} />);
});
