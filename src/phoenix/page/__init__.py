"""The status page: one static file on control that shows the fleet, to those who reach Netdata's dashboard there.

`collect` reads what Netdata, the record of deploys and the desired state hold, `plot` draws lines as SVG, and `layout`
makes HTML of it. The page loads nothing from anywhere: a browser needs no network but the tunnel to control.
"""
